"""One cell of a plan: the requested coordinates, and the variant and fate that they led to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from archsearch.core.cost import Cost
from archsearch.core.family import Family, variant_to_dict
from archsearch.core.start import Start

Fate = Literal["exact", "repaired", "infeasible"]


@dataclass(frozen=True)
class Cell:
    """One cell of a plan. An infeasible cell has no variant and no cost.

    ``requested`` holds the coordinates as requested (for the grid: c1, group_channels, l1; for a
    scaling study: alpha, beta, phi); a repair may give the variant other numbers. ``cost`` uses the
    paper's counting: 1000 classes at 224 x 224. ``reason`` explains a repair or why the cell is
    infeasible. ``paper`` holds the figures that the paper prints for this cell. ``growth`` is the
    factor by which one step of phi multiplies the parameters after rounding; None if nothing grows.
    ``settings`` replace fields of the study's recipe for this cell, such as the learning rate that
    was chosen for its family. ``starts`` are the weights that its trainings start from, by seed
    (`archsearch.core.start.start_of`); without any they start at random.
    """

    requested: Mapping[str, float | int | str]
    fate: Fate
    variant: Family | None
    cost: Cost | None
    reason: str = ""
    paper: Mapping[str, Any] = field(default_factory=dict)
    growth: float | None = None
    settings: Mapping[str, float] = field(default_factory=dict)
    starts: Mapping[str, Start] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        variant = None if self.variant is None else variant_to_dict(self.variant)
        values = {**asdict(self), "variant": variant}
        return {k: v for k, v in values.items() if k not in ("settings", "starts") or v}
