"""The InternImage network family (Wang et al., CVPR 2023): T, S, B, L, XL, H and any variant.

>>> import internimage
>>> model = internimage.create_model("T", num_classes=10)

Importing this package or ``internimage.config`` does not import torch; most of the names below
import it when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from internimage.config import PRESETS, ModelConfig, Preset
    from internimage.dcnv3 import DCNv3, sampling_points
    from internimage.description import Description, Preprocessing
    from internimage.loading import load
    from internimage.model import InternImage, create_model
    from internimage.official import load_official
    from internimage.onnx import export_onnx
    from internimage.weights import load_weights, save_weights

_HOME = {
    "PRESETS": "config",
    "DCNv3": "dcnv3",
    "Description": "description",
    "InternImage": "model",
    "ModelConfig": "config",
    "Preprocessing": "description",
    "Preset": "config",
    "create_model": "model",
    "export_onnx": "onnx",
    "load": "loading",
    "load_official": "official",
    "load_weights": "weights",
    "sampling_points": "dcnv3",
    "save_weights": "weights",
}

__all__ = [
    "PRESETS",
    "DCNv3",
    "Description",
    "InternImage",
    "ModelConfig",
    "Preprocessing",
    "Preset",
    "create_model",
    "export_onnx",
    "load",
    "load_official",
    "load_weights",
    "sampling_points",
    "save_weights",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'internimage' has no attribute {name!r}")
    return getattr(import_module(f"internimage.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
