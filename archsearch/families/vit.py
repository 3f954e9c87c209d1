"""ViT (Dosovitskiy et al., ICLR 2021) as a family: the numbers that name one network.

The three numbers of its shape are those of Alabdulmohsin et al., "Getting ViT in Shape" (NeurIPS
2023): width, depth and the width of the MLP. The number of heads follows from the width.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import gcd
from typing import TYPE_CHECKING, Any, ClassVar, Self

from archsearch.core.cost import Cost
from archsearch.core.family import Family
from archsearch.core.numbers import LARGEST, quoted
from archsearch.core.recipe import Recipe
from archsearch.families import compound_scaling as scaling
from archsearch.families.vit_cost import count

if TYPE_CHECKING:
    from archsearch.families.vit_model import ViTModel

MLP_RANGE = 0.25
"""How far the ratio of MLP width to width may be from the origin's if sizes are to be equal."""


@dataclass(frozen=True, order=True)
class ViT(Family):
    """Three numbers, and the switches of the network: ``ViT(768, 12, 3072)`` is ViT-B/16.

    ``patch`` is the side of a patch in pixels; ``head_dim`` the channels of an attention head, 64
    in all published networks, smaller for small ones. ``grid`` is the side of the square of patches
    that has learned positions, 14 for 224 pixels in patches of 16: the number of parameters belongs
    to the variant, not to the image. Images of other sizes resample the positions; small ones are
    best trained with their own grid, such as ``patch=4, grid=8`` for 32 pixels.

    Raises:
        ValueError: lists every broken rule.
    """

    width: int
    depth: int
    mlp_width: int
    patch: int = 16
    head_dim: int = 64
    grid: int = 14

    solved: ClassVar[str] = "depth"
    axes: ClassVar[tuple[str, ...]] = ("mlp_width", "width")
    labels: ClassVar[Mapping[str, str]] = {"mlp_width": "MLP width"}
    switch_names: ClassVar[tuple[str, ...]] = ("patch", "head_dim", "grid")
    closed_form_is_tested: ClassVar[bool] = True
    grid_values: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "width": (256, 320, 384, 448, 512), "mlp_width": (768, 1024, 1536, 2048),
    }  # fmt: skip
    """At 30M parameters all 20 cells have a network; (384, 16, 1536) is S with four more blocks."""

    def rules(self) -> list[str]:
        if problems := self._switch_problems():
            return problems
        if self.width % self.head_dim:
            return [f"width = {self.width} is not a multiple of head_dim = {self.head_dim}"]
        return []

    def _switch_problems(self) -> list[str]:
        return [
            f"{name} must be a whole number from 1 to {LARGEST:,}, got {quoted(value)}"
            for name, value in self.switches.items()
            if not (type(value) is int and 1 <= value <= LARGEST)
        ]

    def repaired(self) -> tuple[Self, str] | None:
        """The width rounded to the nearest multiple of the head dimension, ties upwards."""
        if self._switch_problems():
            return None
        width = scaling.nearest_multiple(self.width, self.head_dim)
        rule = f"width {self.width} -> {width} (nearest multiple of head_dim, ties upwards)"
        return self.unchecked(width=width), rule

    def build(self, num_classes: int) -> "ViTModel":
        return self._build(num_classes, drop_path=0.0)

    def build_for(self, num_classes: int, recipe: Recipe) -> "ViTModel":
        """The network with the recipe's drop path."""
        return self._build(num_classes, recipe.drop_path)

    def _build(self, num_classes: int, drop_path: float) -> "ViTModel":
        from archsearch.families.vit_model import ViTModel

        return ViTModel(
            *self.numbers,
            heads=self.heads,
            patch=self.patch,
            grid=self.grid,
            drop_path=drop_path,
            num_classes=num_classes,
        )

    def cost(self, height: int = 224, width: int | None = None, num_classes: int = 1000) -> Cost:
        return count(
            *self.numbers,
            patch=self.patch,
            grid=self.grid,
            num_classes=num_classes,
            image=(height, height if width is None else width),
        )

    @classmethod
    def named(cls) -> Mapping[str, Self]:
        """Ti and S (Touvron et al., ICML 2021), B and L (Dosovitskiy et al., Table 1), all with
        patches of 16 pixels."""
        widths = {"Ti": (192, 12), "S": (384, 12), "B": (768, 12), "L": (1024, 24)}
        return {name: cls(width, depth, 4 * width) for name, (width, depth) in widths.items()}

    def published(self) -> dict[str, Any]:
        """Name and, of Ti to B, top-1 accuracy in percent as DeiT without distillation."""
        names = [name for name, variant in self.named().items() if variant == self]
        if not names:
            return {}
        accuracy = PUBLISHED_ACCURACY.get(names[0])
        return {"model": f"ViT-{names[0]}"} | ({} if accuracy is None else {"accuracy": accuracy})

    @property
    def heads(self) -> int:
        """The number of attention heads."""
        return self.width // self.head_dim

    @property
    def num_blocks(self) -> int:
        return self.depth

    # --- scaling, as `archsearch.families.compound_scaling.Scalable`

    def grow(self, alpha: float, beta: float, phi: int, rounding: str) -> tuple[Self, str]:
        """Depth by alpha, width and MLP width by beta (`archsearch.families.compound_scaling`)."""
        variant = scaling.scale(self, alpha, beta, phi, rounding)
        return variant, scaling.rounding_note(self, variant, alpha, beta, phi, rounding)

    def growth_factor(self, alpha: float, beta: float, axis: str = "params") -> tuple[float, str]:
        by_width = scaling.exponent(self, lambda variant: int(getattr(variant.cost(), axis)))
        return scaling.growth_factor(alpha, beta, by_width)

    @property
    def base_width(self) -> int:
        return self.width

    @property
    def width_step(self) -> int:
        return self.head_dim

    @property
    def _mlp_step(self) -> int:
        """8, the multiple that matrix units of GPUs compute fastest, or what the MLP width has of
        it."""
        return gcd(8, self.mlp_width)

    def resized(self, depth: int, width: int) -> Self:
        """Another depth and width; the MLP width keeps its ratio, up to multiples of 8."""
        mlp_width = scaling.nearest_multiple(self.mlp_width * width / self.width, self._mlp_step)
        return replace(self, depth=depth, width=width, mlp_width=mlp_width)

    def shapes(self, width: int) -> Iterator[Self]:
        center, step = self.resized(1, width), self._mlp_step
        yield center
        for change in range(step, int(MLP_RANGE * center.mlp_width) + 1, step):
            yield replace(center, mlp_width=center.mlp_width + change)
            yield replace(center, mlp_width=center.mlp_width - change)

    @property
    def shapes_text(self) -> str:
        ratio = self.mlp_width / self.width
        return (
            f"width a multiple of {self.width_step} and MLP width within {MLP_RANGE:.0%} of "
            f"{ratio:.3g} times it"
        )

    def rounded_text(self, origin: Self, depth: float, width: float, rounding: str) -> str:
        mlp_width = round(origin.mlp_width * width / origin.width, 9)
        if (depth, width, mlp_width) == (self.depth, self.width, self.mlp_width):
            return ""
        return (
            f"width {width:.1f} -> {self.width}, depth {depth:.1f} -> {self.depth}, MLP width "
            f"{mlp_width:.1f} -> {self.mlp_width} (rounding {rounding!r})"
        )


PUBLISHED_ACCURACY = {"Ti": 72.2, "S": 79.8, "B": 81.8}
"""ImageNet-1K top-1 in percent at 224 x 224, trained on ImageNet-1K alone (Touvron et al., Table 5;
DeiT without distillation)."""
