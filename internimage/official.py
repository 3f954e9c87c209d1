"""Loading of released InternImage checkpoints, whose configuration is inferred from the weights.

Released names differ from ours where a norm is inside a Sequential with permutes (``norm1.0``,
``dw_conv.1.1``) and in the heads. No tensor is reshaped or reordered.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from internimage.config import PRESETS, ModelConfig, config_from_dict
from internimage.containers import chosen_prefix, contents, flattened, under
from internimage.in_chans import with_in_chans
from internimage.model import STAGES, InternImage
from internimage.weights import (
    State,
    assemble,
    check_tensors,
    printable,
    regular_file,
    with_classes,
)

# Released prefix -> ours; the first match wins.
_HEAD_NAMES = {
    "conv_head.0.": "head.conv.",
    "conv_head.1.0.": "head.norm.",
    "dcnv3_head_x4.0.": "head.project4.",
    "dcnv3_head_x3.": "head.project3.",
    "clip_projector.norm1_q.0.": "head.norm_q.",
    "clip_projector.norm1_k.0.": "head.norm_k.",
    "clip_projector.norm1_v.0.": "head.norm_v.",
    "clip_projector.cross_dcn.q_bias": "head.q.bias",
    "clip_projector.cross_dcn.k_bias": "head.k.bias",
    "clip_projector.cross_dcn.v_bias": "head.v.bias",
    "clip_projector.cross_dcn.": "head.",
    "fc_norm.0.": "head.norm.",
    "head.": "head.linear.",
}

_BACKBONE_NAMES = (
    (re.compile(r"\.dcn\.dw_conv\.0\."), ".dcn.dw_conv."),
    (re.compile(r"\.dcn\.dw_conv\.1\.1\."), ".dcn.dw_norm."),
    (re.compile(r"\.dcn\.center_feature_scale_proj_"), ".dcn.center_gate."),
    (re.compile(r"(\.(?:res_post_)?norm\d?)\.[01]\."), r"\1."),
    (re.compile(r"(\.post_norms\.\d+)\.0\."), r"\1."),
)


def load_official(
    path: str | os.PathLike[str],
    *,
    offset_scale: float | None = None,
    features_only: bool = False,
    ema: bool = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
    **given: Any,
) -> InternImage:
    """The network of a released InternImage checkpoint (``.pth``) with its weights, in eval mode.

    The configuration is inferred from the names and shapes in the file. They do not determine:

    - ``offset_scale``: by default 2.0 for the widths and depths of L and XL, else 1.0;
    - the kernel, if several fit: the size of the depth-wise convolution is tried first, and a
      kernel with its center before one without;
    - ``drop_path`` (0), and gamma's initial value (1e-5, published; replaced by the file's).

    A field of ``ModelConfig`` in ``given`` overrides the inferred value.

    Args:
        path: the file; its weights may be in any container and have any prefix, as those of a
            detector's backbone. If it has several networks, the log says which one is taken.
        offset_scale: multiplies the sampling grid and the offsets.
        features_only: leave out the classifier, of either kind, and return a backbone.
        ema: take averaged weights, which a training checkpoint has beside the others.
        num_classes: of another number than the file's, the last layer is new and random.
        in_chans: of another number than the file's, the first convolution is adapted to it, as
            `internimage.load` says.
        given: fields of the configuration.

    Raises:
        ValueError: the file is not such a checkpoint, or keys do not fit the network (all named).
    """
    path = Path(path)
    state, held = read_released(path, ema)
    if offset_scale is not None:
        given["offset_scale"] = offset_scale
    try:
        config = infer_config(state, **given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; the file holds {held}") from error
    if not features_only and not any(key.startswith("head.") for key in state):
        raise ValueError(f"{path} has no classifier: pass features_only=True; it holds {held}")
    config = with_classes(config, state, num_classes, path)
    with_in_chans(state, in_chans)
    return assemble(config, state, features_only, path)


def read_released(path: Path, ema: bool = False) -> tuple[dict[str, Tensor], str]:
    """The weights of the network in a checkpoint under our names, and what the file holds.

    Raises:
        ValueError: the file holds no dense weights, or no averaged ones if ``ema``.
    """
    tensors = flattened(_read_official(path))
    state = rename_official(under(tensors, chosen_prefix(tensors, ema, path)))
    check_tensors(state, path)
    return state, contents(tensors)


def infer_config(state: State, **given: Any) -> ModelConfig:
    """The configuration of a state dict in our names, from its names and shapes alone.

    See ``load_official`` for what cannot be inferred and for ``given``.

    Raises:
        ValueError: not an InternImage, or no kernel size fits the offset and mask layers.
    """
    first = [f"levels.{i}.blocks.0." for i in range(STAGES)]
    needed = [block + name for block in first for name in _NEEDED_IN_EVERY_STAGE]
    if missing := [key for key in needed if key not in state]:
        raise ValueError(f"not an InternImage checkpoint: it lacks {', '.join(missing)}")
    if wrong := [text for key in state if (text := _wrong_shape(key, state[key]))]:
        raise ValueError(f"not an InternImage checkpoint: {'; '.join(wrong)}")
    channels = tuple(state[block + "dcn.input_proj.weight"].shape[0] for block in first)
    depths = tuple(_count(state, f"levels.{i}.blocks.") for i in range(STAGES))
    stage_end_norm = "levels.0.norm.weight" in state
    fields = _sampling(state, channels, given) | {
        "channels": channels,
        "depths": depths,
        "mlp_ratio": state[first[0] + "mlp.fc1.weight"].shape[0] / channels[0],
        "norm": _norm_placement(state, stage_end_norm),
        "layer_scale": 1e-5 if first[0] + "gamma1" in state else None,
        "stage_end_norm": stage_end_norm,
        "stage3_extra_norms": "levels.2.post_norms.0.weight" in state,
        "offset_scale": _published_offset_scale(channels, depths),
        "center_feature_scale": first[0] + "dcn.center_gate.weight" in state,
        "head": "attention" if "head.project4.weight" in state else "plain",
    }
    if "head.linear.weight" in state:
        fields["num_classes"] = state["head.linear.weight"].shape[0]
    return config_from_dict(fields | given)


_NEEDED_IN_EVERY_STAGE = (
    "dcn.input_proj.weight",
    "dcn.dw_conv.weight",
    "dcn.mask.weight",
    "mlp.fc1.weight",
)


_NUM_SIDES = {
    "dcn.input_proj.weight": 2,
    "dcn.dw_conv.weight": 4,
    "dcn.mask.weight": 2,
    "dcn.center_gate.weight": 2,
    "mlp.fc1.weight": 2,
    "head.linear.weight": 2,
}
"""How many sides the tensors have from which sizes are inferred."""


def _wrong_shape(key: str, value: Tensor) -> str:
    """Why no size can be inferred from a tensor; empty if it can, or need not."""
    num_sides = next((n for name, n in _NUM_SIDES.items() if key.endswith(name)), None)
    if num_sides is None or (value.dim() == num_sides and value.numel() > 0):
        return ""
    return f"{key}: wanted {num_sides} sides of 1 or more, got shape {tuple(value.shape)}"


def _norm_placement(state: State, stage_end_norm: bool) -> str:
    """Which placement the names show.

    Pre- and post-norm have the same names, but in the released code only pre-norm networks have a
    norm at the end of a stage.
    """
    if "levels.0.blocks.0.res_post_norm1.weight" in state:
        return "res-post"
    return "pre" if stage_end_norm else "post"


def _published_offset_scale(channels: tuple[int, ...], depths: tuple[int, ...]) -> float:
    for preset in PRESETS.values():
        if (channels, depths) == (preset.config.channels, preset.config.depths):
            return preset.config.offset_scale
    return 1.0


def _sampling(state: State, channels: tuple[int, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """Kernel size, remove_center and groups from the number of mask scalars, G*P per stage."""
    scalars = [state[f"levels.{i}.blocks.0.dcn.mask.weight"].shape[0] for i in range(STAGES)]
    side_kernel = state["levels.0.blocks.0.dcn.dw_conv.weight"].shape[-1]
    gate = state.get("levels.0.blocks.0.dcn.center_gate.weight")
    for kernel_size in dict.fromkeys((side_kernel, 3, 5, 7, 9)):
        for remove_center in (False, True):
            points = kernel_size**2 - int(remove_center)
            fields = {
                "kernel_size": kernel_size,
                "remove_center": remove_center,
                "dw_kernel_size": None if side_kernel == kernel_size else side_kernel,
                "groups": tuple(n // max(points, 1) for n in scalars),
            }
            agrees = all(fields[key] == given[key] for key in fields.keys() & given.keys())
            fits_gate = gate is None or gate.shape[0] * points == scalars[0]
            if agrees and fits_gate and _divides(points, scalars, channels):
                return fields
    raise ValueError(
        f"no kernel size of 3, 5, 7 or 9 splits {scalars} mask scalars into groups of "
        f"{list(channels)} channels: pass the kernel_size and groups that this network has"
    )


def _divides(points: int, scalars: list[int], channels: tuple[int, ...]) -> bool:
    """Whether P points divide each stage's mask scalars into groups that divide its channels."""
    return points > 0 and all(
        n % points == 0 and c % (n // points) == 0 for n, c in zip(scalars, channels, strict=True)
    )


def _count(state: State, prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def rename_official(released: State) -> dict[str, Tensor]:
    """The tensors of a released checkpoint under our names."""
    return {_our_name(key): value for key, value in released.items()}


def _our_name(key: str) -> str:
    for prefix, ours in _HEAD_NAMES.items():
        if key.startswith(prefix):
            return ours + key[len(prefix) :]
    for pattern, replacement in _BACKBONE_NAMES:
        key = pattern.sub(replacement, key)
    return key


_REFUSED = (
    re.compile(r"WeightsUnpickler error:\s*(.*?)\s*(?:Please use |\n\s*\n|\Z)", re.DOTALL),
    re.compile(r"trusted source\.\s*(.*?)\s*(?:Check the documentation|\Z)", re.DOTALL),
)
"""The reason in torch's message; the rest is advice to open the file unsafely."""


def _reason(error: Exception) -> str:
    """What torch says is wrong with the file, whole, in one line."""
    matches = (pattern.search(str(error)) for pattern in _REFUSED)
    return printable(next((match[1] for match in matches if match), error))


def _read_official(path: Path) -> dict[Any, Any]:
    regular_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damaged files raised ten different kinds
        reason = f"{type(error).__name__}: {_reason(error)}"
        raise ValueError(
            f"{path}: not a torch file of tensors and plain values, or incomplete ({reason}); a "
            "file that holds other objects is not opened, because opening it would run its code"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: wanted a dict of weights, got {type(content).__name__}")
    return content
