"""Heads for detection and segmentation on any backbone that gives four maps.

Each name below loads torch when it is first used; the modules of costs need none.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archsearch.heads.composite import Composite
    from archsearch.heads.instances import Detections, Instances
    from archsearch.heads.published import (
        cascade_mask_rcnn,
        dino,
        mask2former,
        mask_rcnn,
        upernet,
    )

_MODULES = {
    "Detections": "instances", "Instances": "instances",
    "cascade_mask_rcnn": "published", "mask2former": "published", "mask_rcnn": "published",
    "upernet": "published", "dino": "published", "Composite": "composite",
}  # fmt: skip

__all__ = [
    "Composite", "Detections", "Instances",
    "cascade_mask_rcnn", "dino", "mask2former", "mask_rcnn", "upernet",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'archsearch.heads' has no attribute {name!r}")
    return getattr(import_module(f"archsearch.heads.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
