"""Saving and loading weights as safetensors files that contain their configuration."""

import json
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from internimage.config import ModelConfig, config_from_dict
from internimage.description import Description, from_metadata, to_metadata
from internimage.in_chans import in_chans_of, with_in_chans
from internimage.model import InternImage

CONFIG_KEY = "internimage.config"
CLASSIFIER_WEIGHT, CLASSIFIER_BIAS = "head.linear.weight", "head.linear.bias"
log = logging.getLogger("internimage")
State = Mapping[str, Tensor]


def save_weights(model: InternImage, path: str | os.PathLike[str]) -> None:
    """Writes weights, configuration and description to one safetensors file, or nothing at all."""
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    partial = Path(f"{os.fspath(path)}.partial")
    config = {"format": "pt", CONFIG_KEY: json.dumps(asdict(model.config))}
    save_file(state, partial, config | to_metadata(model.description))
    with partial.open("rb") as file:
        os.fsync(file.fileno())  # else a power cut may leave an empty file of the final name
    partial.replace(path)


def load_weights(
    path: str | os.PathLike[str],
    *,
    features_only: bool = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
) -> InternImage:
    """The network that ``save_weights`` wrote, in eval mode; a backbone if ``features_only``.

    Another ``num_classes`` than the file's starts a new last layer at random, with a warning in the
    log. Images of other channels, ``in_chans``, adapt the first convolution (`internimage.load`);
    the preprocessing is then known no longer, unless it is that of gray images.

    Raises:
        ValueError: not such a file, or keys do not fit its configuration (all named).
    """
    path = regular_file(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({printable(error)})") from error
    if CONFIG_KEY not in metadata:
        raise ValueError(f"{path}: its metadata has no {CONFIG_KEY}, which save_weights writes")
    config = _stored_config(metadata[CONFIG_KEY], path)
    description = _stored_description(metadata, path)
    if num_classes not in (None, config.num_classes):
        description = replace(description, class_names=())
    config = with_classes(config, state, num_classes, path)
    if with_in_chans(state, in_chans) and not _is_gray(description):
        description = replace(description, preprocessing=None)
    model = assemble(config, state, features_only, path)
    model.description = description
    return model


def _is_gray(description: Description) -> bool:
    return description.preprocessing is not None and len(description.preprocessing.mean) == 1


def with_classes(
    config: ModelConfig, state: dict[str, Tensor], num_classes: int | None, source: Path
) -> ModelConfig:
    """The configuration for so many classes; ``state`` gets a new last layer where it differs.

    Raises:
        ValueError: ``num_classes`` is no number of classes.
    """
    if num_classes in (None, config.num_classes):
        return config
    changed = replace(config, num_classes=num_classes)
    if (weight := state.get(CLASSIFIER_WEIGHT)) is not None and weight.dim() == 2:
        new = torch.empty(changed.num_classes, weight.shape[1])
        state[CLASSIFIER_WEIGHT] = nn.init.trunc_normal_(new, std=0.02)
        state[CLASSIFIER_BIAS] = torch.zeros(changed.num_classes)
        had, has = config.num_classes, changed.num_classes
        log.warning("%s has %d classes; the last layer is new, for %d", source, had, has)
    return changed


def _stored_description(metadata: Mapping[str, str], path: Path) -> Description:
    try:
        return from_metadata(metadata)
    except ValueError as error:
        raise ValueError(f"{path}: {printable(error)} (in its metadata)") from error


def _stored_config(text: str, path: Path) -> ModelConfig:
    try:
        return config_from_dict(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {printable(error)} (in its {CONFIG_KEY})") from error


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins with a length and JSON, as safetensors do, or has their suffix."""
    with regular_file(path).open("rb") as file:
        return file.read(9)[8:] == b"{" or Path(path).suffix == ".safetensors"


def regular_file(path: str | os.PathLike[str]) -> Path:
    """The path, if it is a file; reading a FIFO or a device may never end.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it is a folder, a FIFO or a device.
    """
    path = Path(path)
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path}: wanted a file of weights, got a folder, FIFO or device")
    return path


def printable(error: object) -> str:
    """The text of an error in one line, with escapes for what a terminal would obey."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(str(error).split()))


def assemble(
    config: ModelConfig, state: dict[str, Tensor], features_only: bool, source: Path
) -> InternImage:
    """The network of ``config`` with these weights, in eval mode, without initializing it first.

    Raises:
        ValueError: every key that is missing, unexpected or of the wrong shape.
    """
    if features_only:
        state = {key: value for key, value in state.items() if not key.startswith("head.")}
    check_tensors(state, source)
    if problems := _too_large(config, state, features_only):
        raise ValueError(f"{source} does not fit the network: " + "; ".join(problems))
    with torch.device("meta"):
        model = InternImage(config, features_only=features_only, in_chans=in_chans_of(state))
    if problems := misfits(model.state_dict(), state):
        raise ValueError(f"{source} does not fit the network: " + "; ".join(problems))
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    model.load_state_dict(state, assign=True)
    model.use_channels_last()
    return model.eval()


def check_tensors(state: State, source: Path) -> None:
    """Check that all are dense arrays of real numbers, each with its numbers in the file.

    Raises:
        ValueError: some are not; the message names all of them.
    """
    problems = [f"{key}: {problem}" for key, value in state.items() if (problem := _unlike(value))]
    if problems:
        raise ValueError(f"{source} holds no plain weights: " + "; ".join(problems))


def _unlike(value: Tensor) -> str:
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        return f"wanted a dense tensor of real numbers, got {value.layout}, {value.dtype}"
    if value.is_meta or value.nbytes > value.untyped_storage().nbytes():
        return f"the file does not hold the {value.numel():,} numbers of its shape"
    return ""


def _too_large(config: ModelConfig, state: State, features_only: bool) -> list[str]:
    """The numbers of a configuration that no tensor of the file has room for.

    Building a network takes time by its blocks and fails beyond 2^63 numbers, so a foreign file's
    configuration is compared with its tensors first.
    """
    widest = max((size for value in state.values() for size in value.shape), default=0)
    widths = {"channels": max(config.channels), "mlp_ratio": max(config.hidden)}
    widths |= {"kernel_size": config.kernel_size, "dw_kernel_size": config.side_kernel_size}
    if not features_only:
        widths["num_classes"] = config.num_classes
    problems = [
        f"{name} needs a tensor with a side of {width}, the largest side in the file is {widest}"
        for name, width in widths.items()
        if width > widest
    ]
    if sum(config.depths) > len(state):
        problems.append(f"depths: {sum(config.depths)} blocks, but {len(state)} tensors")
    return problems


def misfits(wanted: State, got: State) -> list[str]:
    """How the tensors of a file differ from those of a network, in names, shapes and kinds."""
    both = wanted.keys() & got.keys()
    shapes = [
        f"{key}: wanted shape {tuple(wanted[key].shape)}, got {tuple(got[key].shape)}"
        for key in both
        if wanted[key].shape != got[key].shape
    ]
    shapes += [
        f"{key}: wanted numbers such as {wanted[key].dtype}, got {got[key].dtype}"
        for key in both
        if wanted[key].is_floating_point() != got[key].is_floating_point()
    ]
    missing = sorted(wanted.keys() - got.keys())
    unexpected = sorted(got.keys() - wanted.keys())
    return (
        ([f"missing {', '.join(missing)}"] if missing else [])
        + ([f"unexpected {', '.join(unexpected)}"] if unexpected else [])
        + sorted(shapes)
    )
