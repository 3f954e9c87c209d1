"""The explicit description of one InternImage network, and the published models.

This module does not import torch, so that planning and counting need no torch either.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

Norm = Literal["pre", "post", "res-post"]
Head = Literal["plain", "attention"]
Operator = Literal[
    "dcnv3", "dcnv3-unshared", "dcnv3-sigmoid", "deformable-attention", "depthwise"
]  # fmt: skip

EXTRA_NORM_EVERY = 6
"""H has one more LayerNorm after every sixth block of stage 3 (released model: 5, 11, ...)."""

# The attention head's widths do not depend on the backbone (released H).
TOKEN_CHANNELS = 1024
POOLED_CHANNELS = 768


@dataclass(frozen=True)
class ModelConfig:
    """One network, written out per stage; the fields determine the module that is built.

    ``channels``, ``depths`` and ``groups`` hold one number per stage (four stages). ``norm`` is the
    position of the LayerNorms: ``pre`` ``x + f(LN(x))``, ``post`` ``x + LN(f(x))``, ``res-post``
    ``x + LN(f(LN(x)))``. ``layer_scale`` is the initial value of gamma, or None for no layer scale.
    ``dw_kernel_size`` is the kernel size of the side branch's depth-wise convolution; None means
    that of the operator (Table D's parameter counts need this). ``offset_scale`` multiplies both
    the sampling grid and the offsets. The operator ``depthwise`` does not sample, so ``groups``,
    ``offset_scale`` and ``dw_kernel_size`` do not change it.

    Raises:
        ValueError: every wrong field, all in one error.
    """

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    groups: tuple[int, int, int, int]
    kernel_size: int = 3
    dw_kernel_size: int | None = None
    num_classes: int = 1000
    mlp_ratio: float = 4.0
    norm: Norm = "pre"
    layer_scale: float | None = None
    stage_end_norm: bool = True
    stage3_extra_norms: bool = False
    offset_scale: float = 1.0
    remove_center: bool = False
    center_feature_scale: bool = False
    drop_path: float = 0.0
    head: Head = "plain"
    operator: Operator = "dcnv3"

    def __post_init__(self) -> None:
        if problems := list(_problems(self)):
            raise ValueError("not an InternImage configuration: " + "; ".join(problems))

    @property
    def side_kernel_size(self) -> int:
        """Kernel size of the depth-wise convolution before the offset and mask layers."""
        return self.kernel_size if self.dw_kernel_size is None else self.dw_kernel_size

    @property
    def points(self) -> int:
        """Sampling points P of the operator: K*K, or K*K - 1 with ``remove_center``."""
        return self.kernel_size**2 - int(self.remove_center)

    @property
    def hidden(self) -> tuple[int, ...]:
        """Hidden width of the MLP per stage."""
        return tuple(int(c * self.mlp_ratio) for c in self.channels)

    @property
    def plain_head_channels(self) -> int:
        """Width of the plain head: 1.5 C4 (released models)."""
        return int(self.channels[3] * 1.5)

    @property
    def extra_norm_blocks(self) -> tuple[int, ...]:
        """Indices of the stage-3 blocks that are followed by H's extra LayerNorm."""
        if not self.stage3_extra_norms:
            return ()
        return tuple(range(EXTRA_NORM_EVERY - 1, self.depths[2], EXTRA_NORM_EVERY))


def _problems(c: ModelConfig) -> list[str]:
    return _type_problems(c) or (_stage_problems(c) + _value_problems(c) + _combination_problems(c))


_WHOLE = ("kernel_size", "dw_kernel_size", "num_classes")
_REAL = ("mlp_ratio", "layer_scale", "offset_scale", "drop_path")
_SWITCHES = ("stage_end_norm", "stage3_extra_norms", "remove_center", "center_feature_scale")
_OPTIONAL = ("dw_kernel_size", "layer_scale")


def _type_problems(c: ModelConfig) -> list[str]:
    """A configuration may come from a file, so that any field may hold anything."""
    kinds: dict[str, tuple[str, Callable[[Any], bool]]] = {
        **dict.fromkeys(_WHOLE, ("a whole number", _is_whole)),
        **dict.fromkeys(_REAL, ("a finite number", _is_real)),
        **dict.fromkeys(_SWITCHES, ("true or false", lambda value: isinstance(value, bool))),
    }
    return [
        f"{name}: wanted {wanted}, got {value!r:.60}"
        for name, (wanted, fits) in kinds.items()
        if not fits(value := getattr(c, name)) and not (value is None and name in _OPTIONAL)
    ]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _stage_problems(c: ModelConfig) -> list[str]:
    problems = [
        f"{name}: wanted four positive whole numbers, got {getattr(c, name)!r:.100}"
        for name in ("channels", "depths", "groups")
        if not _four_positive(getattr(c, name))
    ]
    if problems:
        return problems
    problems += [
        f"stage {i}: {channels} channels cannot be split into {groups} groups"
        for i, (channels, groups) in enumerate(zip(c.channels, c.groups, strict=True), 1)
        if channels % groups
    ]
    if c.channels[0] % 2:
        problems.append(f"the stem halves C1, so C1 must be even, got {c.channels[0]}")
    return problems


def _value_problems(c: ModelConfig) -> list[str]:
    problems = []
    for name, kernel in (("kernel_size", c.kernel_size), ("dw_kernel_size", c.side_kernel_size)):
        if kernel < 1 or kernel % 2 == 0:
            problems.append(f"{name}: wanted a positive odd number, got {kernel}")
    for name, allowed in (("norm", Norm), ("head", Head), ("operator", Operator)):
        if getattr(c, name) not in get_args(allowed):
            choices = ", ".join(get_args(allowed))
            problems.append(f"{name}: wanted one of {choices}, got {getattr(c, name)!r}")
    if c.num_classes < 1:
        problems.append(f"num_classes: wanted at least 1, got {c.num_classes}")
    if not 0 <= c.drop_path < 1:
        problems.append(f"drop_path: wanted 0 <= rate < 1, got {c.drop_path}")
    for name in ("layer_scale", "offset_scale", "mlp_ratio"):
        number = getattr(c, name)
        if number is not None and not math.isfinite(number):
            problems.append(f"{name}: wanted a finite number, got {number}")
    if c.mlp_ratio <= 0:
        problems.append(f"mlp_ratio: wanted a positive number, got {c.mlp_ratio}")
    return problems


def _combination_problems(c: ModelConfig) -> list[str]:
    problems = []
    if c.layer_scale is not None and c.norm == "res-post":
        problems.append("residual-post-norm has no layer scale: set layer_scale=None")
    if c.kernel_size == 1 and c.remove_center:
        problems.append("remove_center leaves no point of a 1x1 kernel: use kernel_size 3 or more")
    if c.operator == "dcnv3-unshared" and c.center_feature_scale:
        problems.append(
            "center_feature_scale needs an operator with C outputs; dcnv3-unshared has P*C"
        )
    if c.operator == "depthwise":
        problems += [
            f"{name} changes sampling, and depthwise does not sample: set {name}=False"
            for name in ("remove_center", "center_feature_scale")
            if getattr(c, name)
        ]
    return problems


def _four_positive(values: object) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == 4
        and all(_is_whole(v) and v > 0 for v in values)
    )


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """The configuration with these fields; lists are accepted as tuples, as in JSON.

    Raises:
        ValueError: a field does not exist or is missing, or the network cannot be built.
    """
    if not isinstance(values, Mapping):
        got = type(values).__name__
        raise ValueError(f"not an InternImage configuration: wanted its fields, got {got}")
    problems = _unknown(values)
    if missing := {"channels", "depths", "groups"} - values.keys():
        problems.append(f"missing: {', '.join(sorted(missing))}")
    if problems:
        raise ValueError("not an InternImage configuration: " + "; ".join(problems))
    tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return ModelConfig(**tuples)


def _unknown(values: Mapping[str, Any]) -> list[str]:
    names = [f.name for f in fields(ModelConfig)]
    unknown = [str(key) for key in values if key not in names]
    return [f"no such field: {', '.join(unknown)}; there are {', '.join(names)}"] if unknown else []


@dataclass(frozen=True)
class Preset:
    """A published model: its configuration and what the paper prints for it.

    ``params`` is the exact count with 1000 classes. ``printed_params`` and ``printed_gmacs`` (by
    image size) are the figures as the paper prints them (Tables 1 and 2).
    """

    config: ModelConfig
    params: int
    printed_params: str
    printed_gmacs: dict[int, str] = field(default_factory=dict)


def stacked(c1: int, group_channels: int, l1: int, l3: int, **fields: Any) -> ModelConfig:
    """The configuration that follows from four numbers by the stacking rules of Section 3.2."""
    channels = (c1, 2 * c1, 4 * c1, 8 * c1)
    g1, g2, g3, g4 = (c // group_channels for c in channels)
    return ModelConfig(channels, (l1, l1, l3, l1), (g1, g2, g3, g4), **fields)


def _scaled(c1: int, l1: int, l3: int, drop_path: float, offset_scale: float = 1.0) -> ModelConfig:
    """The configuration of S, B, L or XL: post-norm, layer scale 1e-5, no norm at stage ends."""
    return stacked(
        c1, 16, l1, l3, norm="post", layer_scale=1e-5, stage_end_norm=False,
        drop_path=drop_path, offset_scale=offset_scale,
    )  # fmt: skip


# Drop path rates: Table B. Parameter counts: the released models, reproduced exactly by the rules.
PRESETS: dict[str, Preset] = {
    "T": Preset(stacked(64, 16, 4, 18, drop_path=0.1), 29_918_424, "30M", {224: "5G"}),
    "S": Preset(_scaled(80, 4, 21, 0.4), 50_079_880, "50M", {224: "8G"}),
    "B": Preset(_scaled(112, 4, 21, 0.5), 97_461_832, "97M", {224: "16G", 800: "206G"}),
    "L": Preset(_scaled(160, 5, 22, 0.1, 2.0), 223_334_810, "223M", {384: "108G"}),
    "XL": Preset(_scaled(192, 5, 24, 0.2, 2.0), 334_819_780, "335M", {384: "163G"}),
    "H": Preset(
        stacked(
            320, 32, 6, 32, dw_kernel_size=5, norm="res-post", stage3_extra_norms=True,
            center_feature_scale=True, head="attention", drop_path=0.2,
        ),
        1_089_636_760, "1.08B", {224: "188G", 640: "1478G"},
    ),
}  # fmt: skip


def preset_config(name: str, **overrides: Any) -> ModelConfig:
    """The configuration of a published model (T, S, B, L, XL, H) with some fields changed.

    Raises:
        ValueError: the model or a field does not exist, or the changed network cannot be built.
    """
    problems = _unknown(overrides)
    if name not in PRESETS:
        problems.append(f"no model is called {name!r}; there are {', '.join(PRESETS)}")
    if problems:
        raise ValueError("; ".join(problems))
    return replace(PRESETS[name].config, **overrides)
