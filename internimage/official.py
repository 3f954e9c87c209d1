"""Released InternImage checkpoints: recognised by names and shapes, read into our names.

Released names differ from ours where a norm stands in a Sequential with permutes (``norm1.0``,
``dw_conv.1.1``) and in the heads; nothing is reshaped or reordered.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from internimage.config import PRESETS, ModelConfig, config_from_dict
from internimage.model import STAGES, InternImage
from internimage.weights import State, assemble

# Where a file may hold the weights; a training checkpoint has several of these.
_CONTAINERS = ("model", "model_ema", "state_dict")

# Released prefix -> ours; the first that matches is taken.
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
    **known: Any,
) -> InternImage:
    """A network with the weights of a released InternImage checkpoint (``.pth``), in eval mode.

    The configuration is read from the names and shapes in the file. What they cannot tell:

    - ``offset_scale``: by default 2.0 for the widths and depths of L and XL, else 1.0;
    - the kernel, where several fit: the depth-wise convolution's is tried first, with its centre;
    - ``drop_path`` (0), and gamma's initial value (1e-5, published; replaced by the file's).

    Any field of ``ModelConfig`` given in ``known`` goes before what was read.

    Args:
        path: the file; weights under ``model``, ``model_ema`` or ``state_dict``, or bare.
        offset_scale: multiplies the sampling grid and the offsets.
        features_only: leave the classifier out, whatever it is, and return a backbone.
        known: fields of the configuration.

    Raises:
        ValueError: the file is no such checkpoint, or its keys do not fit the network (all named).
    """
    state = rename_official(_read_official(Path(path)))
    if offset_scale is not None:
        known["offset_scale"] = offset_scale
    return assemble(infer_config(state, **known), state, features_only, Path(path))


def infer_config(state: State, **known: Any) -> ModelConfig:
    """The configuration that a state dict in our names has, by its names and shapes alone.

    See ``load_official`` for what cannot be read and for ``known``.

    Raises:
        ValueError: no InternImage, or no kernel fits the offset and mask layers.
    """
    first = [f"levels.{i}.blocks.0." for i in range(STAGES)]
    needed = [stage + part for stage in first for part in _READ_FROM_EVERY_STAGE]
    if missing := [key for key in needed if key not in state]:
        raise ValueError(f"not an InternImage checkpoint: it lacks {', '.join(missing)}")
    channels = tuple(state[stage + "dcn.input_proj.weight"].shape[0] for stage in first)
    depths = tuple(_count(state, f"levels.{i}.blocks.") for i in range(STAGES))
    stage_end_norm = "levels.0.norm.weight" in state
    fields = _sampling(state, channels, known) | {
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
    return config_from_dict(fields | known)


_READ_FROM_EVERY_STAGE = (
    "dcn.input_proj.weight",
    "dcn.dw_conv.weight",
    "dcn.mask.weight",
    "mlp.fc1.weight",
)


def _norm_placement(state: State, stage_end_norm: bool) -> str:
    """Pre- and post-norm have the same names; in the released code only pre-norm ends its stages
    with a norm."""
    if "levels.0.blocks.0.res_post_norm1.weight" in state:
        return "res-post"
    return "pre" if stage_end_norm else "post"


def _published_offset_scale(channels: tuple[int, ...], depths: tuple[int, ...]) -> float:
    for preset in PRESETS.values():
        if (channels, depths) == (preset.config.channels, preset.config.depths):
            return preset.config.offset_scale
    return 1.0


def _sampling(state: State, channels: tuple[int, ...], known: Mapping[str, Any]) -> dict[str, Any]:
    """Kernel, centre and groups from the number of mask scalars, G*P per stage."""
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
            agrees = all(fields[key] == known[key] for key in fields.keys() & known.keys())
            fits_gate = gate is None or gate.shape[0] * points == scalars[0]
            if agrees and fits_gate and _splits(channels, scalars, points):
                return fields
    raise ValueError(
        f"no kernel size of 3, 5, 7 or 9 splits {scalars} mask scalars into groups of "
        f"{list(channels)} channels: pass the kernel_size and groups that this network has"
    )


def _splits(channels: tuple[int, ...], scalars: list[int], points: int) -> bool:
    return points > 0 and all(
        n % points == 0 and c % (n // points) == 0 for n, c in zip(scalars, channels, strict=True)
    )


def _count(state: State, prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def rename_official(released: State) -> dict[str, Tensor]:
    """The same tensors under our names instead of those of a released checkpoint."""
    return {_our_name(key.removeprefix("module.")): value for key, value in released.items()}


def _our_name(key: str) -> str:
    for prefix, ours in _HEAD_NAMES.items():
        if key.startswith(prefix):
            return ours + key[len(prefix) :]
    for pattern, replacement in _BACKBONE_NAMES:
        key = pattern.sub(replacement, key)
    return key


def _read_official(path: Path) -> State:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # ten kinds were seen on damaged files
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(
            f"{path}: not a torch file of tensors and plain values, or not whole ({reason}); a "
            "file that holds other objects is not opened, because opening it would run its code"
        ) from error
    for key in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise ValueError(f"{path}: wanted a dict of weights, got {type(content).__name__}")
    return {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
