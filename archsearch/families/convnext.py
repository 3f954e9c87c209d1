"""ConvNeXt (Liu et al., CVPR 2022) as a family: the numbers that name one network.

Two rules of the published networks leave three numbers (C1, L1, L3): C_i = 2^(i-1) C1, and depths
(L1, L1, L3, L1) with L1 <= L3. Stage 3 takes the depth, as in InternImage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Self

from archsearch.core.cost import Cost, FeatureMaps
from archsearch.core.family import Family
from archsearch.core.numbers import quoted
from archsearch.core.recipe import Recipe
from archsearch.families import compound_scaling as scaling
from archsearch.families.convnext_cost import count, feature_maps
from archsearch.families.four_stages import FourStages

if TYPE_CHECKING:
    from archsearch.families.convnext_model import ConvNeXtModel


@dataclass(frozen=True, order=True)
class ConvNeXt(FourStages, Family):
    """Three numbers, and the switches of the block: ``ConvNeXt(96, 3, 9)`` is ConvNeXt-T.

    ``kernel_size`` is the side of the depth-wise convolution; ``layer_scale`` the initial factor of
    every residual branch, None for a block without one.

    Raises:
        ValueError: lists every broken rule.
    """

    c1: int
    l1: int
    l3: int
    kernel_size: int = 7
    layer_scale: float | None = 1e-6

    solved: ClassVar[str] = "l3"
    axes: ClassVar[tuple[str, ...]] = ("l1", "c1")
    labels: ClassVar[Mapping[str, str]] = {"c1": "C1", "l1": "L1", "l3": "L3"}
    switch_names: ClassVar[tuple[str, ...]] = ("kernel_size", "layer_scale")
    closed_form_is_tested: ClassVar[bool] = True
    grid_values: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "c1": (64, 80, 96, 112), "l1": (1, 2, 3, 4, 5),
    }  # fmt: skip
    """At 30M parameters 17 of the 20 cells have a network; (96, 3, 10) is T with one more block."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer_scale is not None:  # JSON may give 1 for 1.0, which must be the same variant
            object.__setattr__(self, "layer_scale", float(self.layer_scale))

    def rules(self) -> list[str]:
        problems = []
        if self.l1 > self.l3:
            problems.append(f"L1 = {self.l1} exceeds L3 = {self.l3}: stage 3 is the deepest")
        size, scale = self.kernel_size, self.layer_scale
        if not (type(size) is int and size > 0 and size % 2):
            problems.append(f"kernel_size must be an odd whole number, got {quoted(size)}")
        if not (scale is None or (_is_number(scale) and scale > 0)):
            problems.append(
                f"layer_scale must be a number above 0, or none for no factors, got {quoted(scale)}"
            )
        return problems

    def min_solved(self) -> int:
        """L1, as stage 3 is at least as deep as the others."""
        return self.l1

    def build(self, num_classes: int) -> "ConvNeXtModel":
        return self._build(None, num_classes=num_classes)

    def build_for(self, num_classes: int, recipe: Recipe) -> "ConvNeXtModel":
        """The network with the recipe's drop path and initial layer scale."""
        return self._build(recipe, num_classes=num_classes)

    def build_backbone(self, recipe: Recipe | None = None) -> "ConvNeXtModel":
        return self._build(recipe, features_only=True)

    def _build(self, recipe: Recipe | None, **options: Any) -> "ConvNeXtModel":
        from archsearch.families.convnext_model import ConvNeXtModel

        layer_scale = self.layer_scale
        if recipe and layer_scale is not None and recipe.layer_scale is not None:
            layer_scale = recipe.layer_scale
        return ConvNeXtModel(
            self.channels,
            self.depths,
            kernel_size=self.kernel_size,
            layer_scale=layer_scale,
            drop_path=recipe.drop_path if recipe else 0.0,
            **options,
        )

    def cost(self, height: int = 224, width: int | None = None, num_classes: int = 1000) -> Cost:
        return count(num_classes, **self._counted(height, width))

    def feature_maps(self, height: int = 224, width: int | None = None) -> FeatureMaps:
        return feature_maps(**self._counted(height, width))

    def _counted(self, height: int, width: int | None) -> dict[str, Any]:
        return {
            "channels": self.channels,
            "depths": self.depths,
            "kernel_size": self.kernel_size,
            "layer_scale": self.layer_scale is not None,
            "height": height,
            "width": height if width is None else width,
        }

    def grow(self, alpha: float, beta: float, phi: int, rounding: str) -> tuple[Self, str]:
        """See `archsearch.families.compound_scaling.scale`; the paper has no such rule."""
        variant = scaling.scale(self, alpha, beta, phi, rounding)
        return variant, scaling.rounding_note(self, variant, alpha, beta, phi, rounding)

    def growth_factor(self, alpha: float, beta: float, axis: str = "params") -> tuple[float, str]:
        by_width = scaling.exponent(self, lambda variant: int(getattr(variant.cost(), axis)))
        return scaling.growth_factor(alpha, beta, by_width)

    @classmethod
    def named(cls) -> Mapping[str, Self]:
        """The published networks T, S, B, L and XL (Liu et al., Section 3)."""
        numbers = {
            "T": (96, 3, 9), "S": (96, 3, 27), "B": (128, 3, 27), "L": (192, 3, 27),
            "XL": (256, 3, 27),
        }  # fmt: skip
        return {name: cls(*values) for name, values in numbers.items()}

    def published(self) -> dict[str, Any]:
        """Name and top-1 accuracy in percent that the InternImage paper prints, else empty."""
        names = [name for name, variant in self.named().items() if variant == self]
        if not names:
            return {}
        return {"model": f"ConvNeXt-{names[0]}", "accuracy": PUBLISHED_ACCURACY[names[0]]}

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """The widths of the four stages."""
        return self.c1, 2 * self.c1, 4 * self.c1, 8 * self.c1

    @property
    def depths(self) -> tuple[int, int, int, int]:
        """The numbers of blocks of the four stages."""
        return self.l1, self.l1, self.l3, self.l1

    @property
    def num_blocks(self) -> int:
        return self.depth

    @property
    def width_step(self) -> int:
        """8, though no rule needs that: it keeps all widths multiples of 8, which matrix units of
        GPUs compute fastest; the published C1 are multiples of 32."""
        return 8


PUBLISHED_ACCURACY = {"T": 82.1, "S": 83.1, "B": 83.8, "L": 87.5, "XL": 87.8}
"""ImageNet-1K top-1 in percent, as the InternImage paper prints it (Table 2); L and XL at 384 x 384
after ImageNet-22K."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
