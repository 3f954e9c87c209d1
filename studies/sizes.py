"""The two sizes of the paper's studies: minutes on a CPU, or as the paper ran them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from archsearch.core.cell import Cell
from archsearch.families.internimage import ORIGIN, InternImageFamily, Variant

Size = Literal["small", "full"]


@dataclass(frozen=True)
class Scale:
    """The network that a study modifies, and the default recipe.

    ``epochs`` replaces the recipe's number of epochs; None keeps it.
    """

    origin: Variant
    recipe: str
    epochs: int | None


SCALES: dict[Size, Scale] = {
    "small": Scale(Variant(16, 8, 2, 4), "quick", 15),
    "full": Scale(ORIGIN, "table-b", None),
}
"""The small network has T's shape at 1.0M parameters: several groups per stage, and most blocks in
stage 3."""


def cell(
    requested: Mapping[str, float | int | str], variant: InternImageFamily, **paper: Any
) -> Cell:
    """An exact cell with the paper's figures for T."""
    return Cell(requested, "exact", variant, variant.cost(), paper=paper)
