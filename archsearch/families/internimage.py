"""InternImage as a family: the numbers that name one network, under the four stacking rules.

Section 3.2: (1) C_i = 2^(i-1) C1; (2) G_i = C_i / C'; (3) L1 = L2 = L4; (4) L1 <= L3.
Four numbers (C1, C', L1, L3) determine a network. `FreeVariant` drops the rules: all twelve
hyper-parameters are free. `Explicit` wraps any configuration, such as the paper's H.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import lcm
from typing import TYPE_CHECKING, Any, ClassVar, Self

from archsearch.core.cost import Cost, FeatureMaps
from archsearch.core.family import Family
from archsearch.core.numbers import quoted
from archsearch.core.recipe import Recipe
from archsearch.families import compound_scaling as scaling
from archsearch.families.four_stages import FourStages
from archsearch.families.internimage_cost import count, feature_maps
from archsearch.families.internimage_scaling import exponent
from internimage.config import PRESETS, ModelConfig, Norm, Operator, stacked

if TYPE_CHECKING:
    from internimage.model import InternImage


class InternImageFamily(Family):
    """Base of the InternImage families. Subclasses define `config`; module and cost follow."""

    switch_names: ClassVar[tuple[str, ...]] = (
        "kernel_size", "norm", "layer_scale", "offset_scale", "operator"
    )  # fmt: skip
    solved: ClassVar[str] = "l3"
    labels: ClassVar[Mapping[str, str]] = {
        "c1": "C1", "group_channels": "C'", "l1": "L1", "l3": "L3",
    }  # fmt: skip
    stored_without_path: ClassVar[bool] = True
    closed_form_is_tested: ClassVar[bool] = True
    has_gradient_checkpointing: ClassVar[bool] = True

    def config(self, num_classes: int = 1000, drop_path: float = 0.0) -> ModelConfig:
        """The configuration of the network, with explicit values per stage."""
        raise NotImplementedError

    def config_for(self, num_classes: int, recipe: Recipe) -> ModelConfig:
        """The configuration with the recipe's drop path and initial layer scale."""
        config = self.config(num_classes, recipe.drop_path)
        if recipe.layer_scale is None or config.layer_scale is None:
            return config
        return replace(config, layer_scale=recipe.layer_scale)

    def build(self, num_classes: int) -> "InternImage":
        from internimage.model import InternImage

        return InternImage(self.config(num_classes))

    def build_for(self, num_classes: int, recipe: Recipe) -> "InternImage":
        from internimage.model import InternImage

        return InternImage(self.config_for(num_classes, recipe))

    def build_backbone(self, recipe: Recipe | None = None) -> "InternImage":
        from internimage.model import InternImage

        config = self.config() if recipe is None else self.config_for(1000, recipe)
        return InternImage(config, features_only=True)

    def cost(self, height: int = 224, width: int | None = None, num_classes: int = 1000) -> Cost:
        return count(self.config(num_classes), height, width)

    def feature_maps(self, height: int = 224, width: int | None = None) -> FeatureMaps:
        return feature_maps(self.config(), height, width)

    @property
    def num_blocks(self) -> int:
        return sum(self.config().depths)


@dataclass(frozen=True, order=True)
class Variant(FourStages, InternImageFamily):
    """Four numbers and the switches of the block.

    The default switches are T's block (pre-norm, no layer scale), which the grid uses; scaled
    models take the block of S and B (post-norm, layer scale).

    Raises:
        ValueError: lists every broken rule.
    """

    c1: int
    group_channels: int
    l1: int
    l3: int
    kernel_size: int = 3
    norm: Norm = "pre"
    layer_scale: float | None = None
    offset_scale: float = 1.0
    operator: Operator = "dcnv3"

    axes: ClassVar[tuple[str, ...]] = ("group_channels", "l1", "c1")
    grid_values: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "c1": (48, 64, 80), "group_channels": (16, 32), "l1": (1, 2, 3, 4, 5),
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer_scale is not None:  # JSON may give 1 for 1.0, which must be the same variant
            object.__setattr__(self, "layer_scale", float(self.layer_scale))

    def rules(self) -> list[str]:
        problems = []
        if self.c1 % 2:
            problems.append(f"C1 must be even (the stem halves it), got {self.c1}")
        if self.c1 % self.group_channels:
            problems.append(
                f"rule 2: C1 = {self.c1} is not a multiple of C' = {self.group_channels}"
            )
        if self.l1 > self.l3:
            problems.append(f"rule 4: L1 = {self.l1} exceeds L3 = {self.l3}")
        return problems

    def min_solved(self) -> int:
        """L1, as L3 must be at least L1 (rule 4)."""
        return self.l1

    def repaired(self) -> tuple[Self, str]:
        """C1 rounded to the nearest multiple of C', ties upwards (supplement C.2: "the model width
        C1 needs to be divisible by C'. Therefore some adjustment is required")."""
        width = scaling.nearest_multiple(self.c1, self.width_step)
        even = "" if self.group_channels % 2 == 0 else "even "
        rule = f"C1 {self.c1} -> {width} (nearest {even}multiple of C', ties upwards)"
        return self.unchecked(c1=width), rule

    def grow(self, alpha: float, beta: float, phi: int, rounding: str) -> tuple[Self, str]:
        """See `archsearch.families.compound_scaling.scale`."""
        variant = scaling.scale(self, alpha, beta, phi, rounding)
        return variant, scaling.rounding_note(self, variant, alpha, beta, phi, rounding)

    def growth_factor(self, alpha: float, beta: float, axis: str = "params") -> tuple[float, str]:
        return scaling.growth_factor(alpha, beta, exponent(self, axis))

    def published(self) -> dict[str, Any]:
        """Name and top-1 accuracy in percent that the paper prints for this network, else empty."""
        names = [name for name, variant in PUBLISHED.items() if variant == self]
        return {"model": names[0], "accuracy": PUBLISHED_ACCURACY[names[0]]} if names else {}

    @classmethod
    def named(cls) -> "Mapping[str, Variant]":
        return PUBLISHED

    @classmethod
    def parse(cls, text: str, like: "Variant | None" = None) -> "Variant":
        """See `parse_variant`."""
        return parse_variant(text, like or ORIGIN)

    @property
    def width_step(self) -> int:
        """C1 is a multiple of C' (rule 2), and even (the stem halves it)."""
        return lcm(2, self.group_channels)

    def config(self, num_classes: int = 1000, drop_path: float = 0.0) -> ModelConfig:
        return stacked(*self.numbers, **_block(self, num_classes, drop_path))


@dataclass(frozen=True, order=True)
class FreeVariant(InternImageFamily):
    """All twelve hyper-parameters (C_i, G_i, L_i) free, with the same switches."""

    channels: tuple[int, int, int, int]
    groups: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    kernel_size: int = 3
    norm: Norm = "pre"
    layer_scale: float | None = None
    offset_scale: float = 1.0
    operator: Operator = "dcnv3"

    def __post_init__(self) -> None:
        for name in ("channels", "groups", "depths"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self.config()

    @classmethod
    def number_names(cls) -> tuple[str, ...]:
        """Empty: the twelve numbers are lists per stage."""
        return ()

    @property
    def name(self) -> str:
        parts = zip("CGL", (self.channels, self.groups, self.depths), strict=True)
        return "-".join(letter + ".".join(map(str, values)) for letter, values in parts)

    @property
    def label(self) -> str:
        return self.name

    @property
    def solved_value(self) -> int:
        return self.depths[2]

    def with_solved(self, value: int) -> Self:
        l1, l2, _, l4 = self.depths
        return replace(self, depths=(l1, l2, value, l4))

    def params(self) -> dict[str, Any]:
        """As `Family.params`; G_i appears as ``group_channels_i`` = C_i / G_i."""
        widths = tuple(c // g for c, g in zip(self.channels, self.groups, strict=True))
        lists = {"c": self.channels, "group_channels_": widths, "l": self.depths}
        numbers = {
            f"{name}{i}": value
            for name, values in lists.items()
            for i, value in enumerate(values, 1)
        }
        return numbers | self.switches

    def config(self, num_classes: int = 1000, drop_path: float = 0.0) -> ModelConfig:
        block = _block(self, num_classes, drop_path)
        return ModelConfig(self.channels, self.depths, self.groups, **block)


def _block(variant: Variant | FreeVariant, num_classes: int, drop_path: float) -> dict[str, Any]:
    """The fields of a configuration that do not depend on the numbers of the variant."""
    options = {"num_classes": num_classes, "drop_path": drop_path}
    return {**options, "stage_end_norm": variant.norm != "post", **variant.switches}


@dataclass(frozen=True)
class Explicit(InternImageFamily):
    """A named configuration, unchanged except for classes and drop path, which the recipe sets."""

    title: str
    model: ModelConfig

    switch_names: ClassVar[tuple[str, ...]] = ("title", "model")

    @property
    def name(self) -> str:
        return self.title

    @property
    def label(self) -> str:
        return self.title

    def config(self, num_classes: int = 1000, drop_path: float = 0.0) -> ModelConfig:
        return replace(self.model, num_classes=num_classes, drop_path=drop_path)


_scaled = Variant(64, 16, 4, 18, norm="post", layer_scale=1e-5)

PUBLISHED: dict[str, Variant] = {
    "T": Variant(64, 16, 4, 18),
    "S": _scaled.with_numbers(80, 16, 4, 21),
    "B": _scaled.with_numbers(112, 16, 4, 21),
    "L": replace(_scaled.with_numbers(160, 16, 5, 22), offset_scale=2.0),
    "XL": replace(_scaled.with_numbers(192, 16, 5, 24), offset_scale=2.0),
}
"""Table 1 as variants, with the blocks of the released models. H has another block and head, so it
is not a variant (`internimage.config.PRESETS`)."""

ORIGIN = PUBLISHED["T"]
"""The paper's origin model, with T's block (pre-norm, no layer scale), which the grid uses."""

SCALED_ORIGIN = _scaled
"""The origin's numbers with the block of S and B (post-norm, layer scale), which ladders use."""

PUBLISHED_ACCURACY = {"T": 83.5, "S": 84.2, "B": 84.9, "L": 87.7, "XL": 88.0}
"""ImageNet-1K top-1 in percent (Table 2); L and XL at 384 x 384 after ImageNet-22K."""


def parse_variant(text: str, like: Variant = ORIGIN) -> Variant:
    """Parse a published name (``T`` ... ``XL``) or four numbers ``C1-C'-L1-L3`` (``64-16-4-18``).

    Four numbers take their switches from ``like``; a name has the released model's switches.

    Raises:
        ValueError: the text has another form, or the numbers break a rule.
    """
    name = text.strip()
    if name.upper() in PUBLISHED:
        return PUBLISHED[name.upper()]
    numbers = name.split("-")
    if len(numbers) != 4 or not all(re.fullmatch(r"\d{1,15}", n, re.ASCII) for n in numbers):
        raise ValueError(
            f"wanted one of {', '.join(PUBLISHED)} or four numbers C1-C'-L1-L3 like "
            f"{ORIGIN.name}, got {quoted(text)} (H is not a variant: it can only be counted and "
            "built, by name)"
        )
    return like.with_numbers(*map(int, numbers))


def parse_network(text: str) -> InternImageFamily:
    """Parse any network that can be built: T to H as released, or four numbers.

    Raises:
        ValueError: as `parse_variant`.
    """
    name = text.strip().upper()
    return Explicit(name, PRESETS[name].config) if name in PRESETS else parse_variant(text)


def variant_from_dict(values: Mapping[str, Any]) -> "Variant | FreeVariant":
    """The variant with these fields, as read from JSON.

    Raises:
        ValueError: a field is unknown or missing, or the numbers break a rule.
    """
    kind = Variant if "c1" in values else FreeVariant
    if unknown := sorted(values.keys() - {f.name for f in fields(kind)}):
        raise ValueError(f"unknown fields of a variant: {', '.join(unknown)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"not a variant: {error}") from None
