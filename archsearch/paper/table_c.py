"""Table C: five (alpha, beta) from T to ~100M, at phi = 2.

The paper prints parameters and accuracy, no configurations. `RECOVERED` are configurations that
have the printed number of parameters, found by counting; `rounding_evidence` shows why they cannot
come from one rounding rule.
"""

from dataclasses import dataclass, replace

from archsearch.core.budget import Budget
from archsearch.core.study import Cell
from archsearch.families.internimage import SCALED_ORIGIN, Variant, paper_figures
from archsearch.families.internimage_cost import count
from archsearch.space.grid import solve_l3
from archsearch.space.scaling import ROUNDINGS, scale, scaled_cell

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
"""Doubt: (112, 16, 5, 20) has 105M and (96, 16, 6, 26) 95M as well; the deeper stage 3 is taken in
both, as it keeps closer to T's and to B's proportions."""


def table_c(origin: Variant = SCALED_ORIGIN, rounding: str = "recovered") -> tuple[Cell, ...]:
    """The five pairs at phi = 2, each beside what the paper prints for it.

    ``rounding`` is ``recovered``, labelled so in every reason and possible only from T's four
    numbers, or a policy of `archsearch.space.scaling.ROUNDINGS`.

    Raises:
        ValueError: for an unknown rounding, or ``recovered`` from another origin.
    """
    if rounding not in (*ROUNDINGS, "recovered"):
        raise ValueError(
            f"rounding wants recovered or one of {', '.join(ROUNDINGS)}, got {rounding!r}"
        )
    if rounding != "recovered":
        scaled = [scaled_cell(origin, row.alpha, row.beta, PHI, rounding) for row in ROWS]
        return tuple(_with_paper(cell, row) for cell, row in zip(scaled, ROWS, strict=True))
    if origin.numbers != SCALED_ORIGIN.numbers:
        raise ValueError(
            f"Table C's recovered configurations start from {SCALED_ORIGIN.name}; from "
            f"{origin.name} take a rounding: {', '.join(ROUNDINGS)}"
        )
    return tuple(_recovered(origin, row) for row in ROWS)


def _recovered(origin: Variant, row: Row) -> Cell:
    variant = origin.with_numbers(*row.recovered)
    cost = count(variant.config())
    reason = (
        f"recovered: not printed, found by counting; {cost.params / 1e6:.2f}M params against the "
        f"printed {row.params}M; no rounding rule gives all five rows"
    )
    asked = {"alpha": row.alpha, "beta": row.beta, "phi": PHI}
    return _with_paper(Cell(asked, "repaired", variant, cost, reason, paper_figures(variant)), row)


def _with_paper(cell: Cell, row: Row) -> Cell:
    return replace(cell, paper={**cell.paper, "params": f"{row.params}M", "accuracy": row.accuracy})


def rounding_evidence(origin: Variant = SCALED_ORIGIN) -> str:
    """Why Table C comes from no single rounding rule, as text: every policy against the print."""
    lines = [
        f"From {origin.name} at phi = {PHI}: parameters in millions by each rounding, and as "
        "printed.",
        "",
        _line("alpha beta", "D'", "C1'", *ROUNDINGS, "printed", "recovered"),
    ]
    for row in ROWS:
        asked = f"{row.alpha:.2f}, {row.beta:.2f}"
        sizes = [_millions(scale(origin, row.alpha, row.beta, PHI, name)) for name in ROUNDINGS]
        depth, c1 = row.alpha**PHI * origin.depth, row.beta**PHI * origin.c1
        found = origin.with_numbers(*row.recovered).name
        lines.append(_line(asked, f"{depth:.1f}", f"{c1:.1f}", *sizes, str(row.params), found))
    return "\n".join([*lines, "", _contradiction(origin)])


def _line(*columns: str) -> str:
    return "  ".join(f"{column:>10}" for column in columns).rstrip()


def _millions(variant: Variant) -> str:
    return f"{count(variant.config()).params / 1e6:.1f}"


def _contradiction(origin: Variant) -> str:
    """Rows 1 and 5 round the width oppositely; undoing that in row 5 contradicts row 3 in depth."""
    first, third, fifth = ROWS[0], ROWS[2], ROWS[4]
    up, down = first.beta**PHI * origin.c1, fifth.beta**PHI * origin.c1
    wide = solve_l3(third.recovered[0], *origin.numbers[1:3], Budget(fifth.params * 10**6), origin)
    return (
        f"C1' = {up:.1f} had to go up to {first.recovered[0]}, but {down:.1f}, closer to its next "
        f"multiple, down to {fifth.recovered[0]}. Had it gone up to {wide.c1}, {fifth.params}M "
        f"would need D = {wide.depth}, less than the {_depth(third)} of row 3, whose D' is smaller."
    )


def _depth(row: Row) -> int:
    return 3 * row.recovered[2] + row.recovered[3]
