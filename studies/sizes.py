"""The two sizes that the paper's studies run at: on a CPU in minutes, and as the paper ran them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from archsearch.core.cell import Cell
from archsearch.families.internimage import ORIGIN, InternImageFamily, Variant

Size = Literal["small", "full"]


@dataclass(frozen=True)
class Scale:
    """The network that a study changes, and the recipe it takes where none is given.

    ``epochs`` replaces the recipe's; None keeps them.
    """

    origin: Variant
    recipe: str
    epochs: int | None


SCALES: dict[Size, Scale] = {
    "small": Scale(Variant(16, 8, 2, 4), "quick", 15),
    "full": Scale(ORIGIN, "table-b", None),
}
"""Small is T's shape at 1.0M: four stages, several groups in each, most blocks in the third."""


def cell(
    requested: Mapping[str, float | int | str], variant: InternImageFamily, **paper: Any
) -> Cell:
    """A cell that is exactly what was requested, with the paper's figures for T."""
    return Cell(requested, "exact", variant, variant.cost(), paper=paper)
