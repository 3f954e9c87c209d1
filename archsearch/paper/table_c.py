"""Table C: five (alpha, beta) from T to ~100M, at phi = 2, or at any step from any origin.

The paper prints parameters and accuracy, but no configurations. The ``recovered`` configurations
have the printed number of parameters and were found by counting. They cannot come from one rounding
rule: rows 1 and 5 round the width in opposite directions.
"""

from dataclasses import dataclass, replace

from archsearch.core.cell import Cell
from archsearch.core.numbers import quoted
from archsearch.families.compound_scaling import ROUNDING_NAMES
from archsearch.families.internimage import SCALED_ORIGIN, Variant
from archsearch.space.grid import with_duplicates_noted
from archsearch.space.scaling import MAX_RUNGS, growth_per_step, scaled_cell

PHI = 2


@dataclass(frozen=True)
class Row:
    """One printed row and the numbers (C1, C', L1, L3) that give its parameters.

    ``params`` in millions as printed; ``accuracy`` ImageNet-1K top-1 in percent after 300 epochs.
    """

    alpha: float
    beta: float
    params: int
    accuracy: float
    recovered: tuple[int, int, int, int]


ROWS = (
    Row(1.03, 1.40, 118, 84.5, (128, 16, 4, 18)),
    Row(1.06, 1.38, 95, 83.8, (112, 16, 4, 20)),
    Row(1.09, 1.36, 97, 84.9, (112, 16, 4, 21)),
    Row(1.12, 1.34, 105, 83.1, (112, 16, 4, 24)),
    Row(1.15, 1.32, 95, 81.8, (96, 16, 5, 30)),
)
"""Doubt: (112, 16, 5, 20) also has 105M, and (96, 16, 6, 26) also has 95M. In both rows the
configuration with the deeper stage 3 is used, which is closer to the proportions of T and B."""


def table_c(
    origin: Variant = SCALED_ORIGIN, rounding: str = "recovered", phi: int = PHI
) -> tuple[Cell, ...]:
    """The five pairs at ``phi``, each with the figures that the paper prints for phi = 2.

    ``rounding`` is ``recovered`` or one of
    `archsearch.families.compound_scaling.ROUNDING_NAMES`. Only T's four numbers at phi = 2 can
    have ``recovered``, which every reason then states. Pairs that are rounded to one network say
    so.

    Raises:
        ValueError: the rounding is unknown, phi is below 1 or above `MAX_RUNGS`, or the rounding
            is ``recovered`` with another origin or phi; or as `scaled_cell`.
    """
    if problems := [*_wrong_rounding(origin, rounding, phi), *_wrong_phi(phi)]:
        raise ValueError("; ".join(problems))
    if rounding == "recovered":
        return tuple(_recovered(origin, row) for row in ROWS)
    scaled = [scaled_cell(origin, row.alpha, row.beta, phi, rounding) for row in ROWS]
    cells = with_duplicates_noted(scaled, origin)
    return tuple(_with_paper(cell, row) for cell, row in zip(cells, ROWS, strict=True))


def _wrong_rounding(origin: Variant, rounding: str, phi: int) -> list[str]:
    names = ", ".join(ROUNDING_NAMES)
    if rounding not in (*ROUNDING_NAMES, "recovered"):
        return [f"rounding must be recovered or one of {names}, got {rounding!r}"]
    if rounding != "recovered" or (origin.numbers, phi) == (SCALED_ORIGIN.numbers, PHI):
        return []
    return [
        f"Table C's recovered configurations start from {SCALED_ORIGIN.name} and are for phi = "
        f"{PHI}; from {origin.name} at phi = {quoted(phi)} take a rounding: {names}"
    ]


def _wrong_phi(phi: int) -> list[str]:
    wrong = not 1 <= phi <= MAX_RUNGS
    return [f"phi must be a whole number from 1 to {MAX_RUNGS}, got {quoted(phi)}"] * wrong


def _recovered(origin: Variant, row: Row) -> Cell:
    variant = origin.with_numbers(*row.recovered)
    cost = variant.cost()
    reason = (
        f"recovered: not printed, found by counting; {cost.params / 1e6:.2f}M params against the "
        f"printed {row.params}M; no rounding rule gives all five rows"
    )
    requested = {"alpha": row.alpha, "beta": row.beta, "phi": PHI}
    growth = growth_per_step(origin.cost().params, cost.params, PHI)
    paper = variant.published()
    return _with_paper(Cell(requested, "repaired", variant, cost, reason, paper, growth), row)


def _with_paper(cell: Cell, row: Row) -> Cell:
    return replace(cell, paper={**cell.paper, "params": f"{row.params}M", "accuracy": row.accuracy})
