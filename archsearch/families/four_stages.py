"""What families of four stages share: depths (L1, L1, L3, L1), and widths that double from C1."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Self

L1_RANGE = 2
"""How far L1 may be from the origin's if sizes are to be equal: from T to H it grows from 4 to 6
(Table 1)."""


class FourStages:
    """The scaling of such a family (`archsearch.families.compound_scaling.Scalable`).

    L1 is the origin's, and stage 3 takes the rest of the depth. InternImage's S and B follow from T
    in this way (Table 1: L1 = 4 in all three). L, XL and H also raise L1; the paper does not print
    a rule for it.
    """

    c1: int
    l1: int
    l3: int

    @property
    def depth(self) -> int:
        """The number of blocks, D = 3 L1 + L3 (Section 3.2)."""
        return 3 * self.l1 + self.l3

    @property
    def base_width(self) -> int:
        return self.c1

    @property
    def width_step(self) -> int:
        """C1 of a scaled network is a multiple of it."""
        raise NotImplementedError

    def with_stages(self, c1: int, l1: int, l3: int) -> Self:
        """This variant with another width and other depths, and everything else as it is."""
        variant: Any = self
        changed: Self = replace(variant, c1=c1, l1=l1, l3=l3)
        return changed

    def resized(self, depth: int, width: int) -> Self:
        return self.with_stages(width, self.l1, depth - 3 * self.l1)

    def shapes(self, width: int) -> Iterator[Self]:
        for l1 in range(max(1, self.l1 - L1_RANGE), self.l1 + L1_RANGE + 1):
            yield self.with_stages(width, l1, l1)

    @property
    def shapes_text(self) -> str:
        return f"C1 a multiple of {self.width_step} and L1 within {L1_RANGE} of {self.l1}"

    def rounded_text(self, origin: Self, depth: float, width: float, rounding: str) -> str:
        if (depth, width, origin.l1) == (self.depth, self.c1, self.l1):
            return ""
        l1 = "stays" if self.l1 == origin.l1 else f"{origin.l1} ->"
        return (
            f"C1 {width:.1f} -> {self.c1}, D {depth:.1f} -> {self.depth} (rounding {rounding!r}, "
            f"L1 {l1} {self.l1})"
        )
