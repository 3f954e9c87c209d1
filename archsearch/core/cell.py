"""One place of a plan, and what became of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from archsearch.core.cost import Cost
from archsearch.core.family import Family, variant_to_dict

Fate = Literal["exact", "repaired", "infeasible"]


@dataclass(frozen=True)
class Cell:
    """One place of the plan and its fate; an infeasible cell has no variant and says why.

    ``requested`` holds the coordinates as requested (for the grid: c1, group_channels, l1; for a
    scaling study: alpha, beta, phi), which may differ from the variant's after a repair. ``cost``
    is counted as the paper counts: 1000 classes at 224 x 224.
    """

    requested: Mapping[str, float | int | str]
    fate: Fate
    variant: Family | None
    cost: Cost | None
    reason: str = ""
    paper: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        variant = None if self.variant is None else variant_to_dict(self.variant)
        return {**asdict(self), "variant": variant}
