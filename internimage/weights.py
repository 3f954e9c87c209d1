"""Saving and loading weights as safetensors files that contain their configuration."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from internimage.config import ModelConfig, config_from_dict
from internimage.model import InternImage

CONFIG_KEY = "internimage.config"
State = Mapping[str, Tensor]


def save_weights(model: InternImage, path: str | os.PathLike[str]) -> None:
    """Writes weights and configuration to one safetensors file, completely or not at all."""
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    partial = Path(f"{os.fspath(path)}.partial")
    save_file(state, partial, {"format": "pt", CONFIG_KEY: json.dumps(asdict(model.config))})
    with partial.open("rb") as file:
        os.fsync(file.fileno())  # else a power cut may leave an empty file of the final name
    partial.replace(path)


def load_weights(path: str | os.PathLike[str], *, features_only: bool = False) -> InternImage:
    """The network that ``save_weights`` wrote, in eval mode; a backbone if ``features_only``.

    Raises:
        ValueError: not such a file, or keys do not fit its configuration (all named).
    """
    path = Path(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error
    if CONFIG_KEY not in metadata:
        raise ValueError(f"{path}: its metadata has no {CONFIG_KEY}, which save_weights writes")
    config = config_from_dict(json.loads(metadata[CONFIG_KEY]))
    return assemble(config, state, features_only, path)


def assemble(
    config: ModelConfig, state: dict[str, Tensor], features_only: bool, source: Path
) -> InternImage:
    """The network of ``config`` with these weights, in eval mode, without initializing it first.

    Raises:
        ValueError: every key that is missing, unexpected or of the wrong shape.
    """
    if features_only:
        state = {key: value for key, value in state.items() if not key.startswith("head.")}
    with torch.device("meta"):
        model = InternImage(config, features_only=features_only)
    if problems := _misfits(model.state_dict(), state):
        raise ValueError(f"{source} does not fit the network: " + "; ".join(problems))
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    model.load_state_dict(state, assign=True)
    model.use_channels_last()
    return model.eval()


def _misfits(wanted: State, got: State) -> list[str]:
    shapes = [
        f"{key}: wanted shape {tuple(wanted[key].shape)}, got {tuple(got[key].shape)}"
        for key in wanted.keys() & got.keys()
        if wanted[key].shape != got[key].shape
    ]
    missing = sorted(wanted.keys() - got.keys())
    unexpected = sorted(got.keys() - wanted.keys())
    return (
        ([f"missing {', '.join(missing)}"] if missing else [])
        + ([f"unexpected {', '.join(unexpected)}"] if unexpected else [])
        + sorted(shapes)
    )
