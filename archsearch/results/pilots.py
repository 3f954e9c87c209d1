"""What the pilot trainings of a comparison of families choose: learning rates and cells."""

from dataclasses import dataclass

from archsearch.core.family import Family
from archsearch.results.cells import CellResult
from archsearch.results.run_results import Results


@dataclass(frozen=True)
class RateChoice:
    """The learning rate of one family, and the pilot's value at every rate; None without one."""

    network: str
    rate: float
    values: dict[float, float | None]

    @property
    def at_edge(self) -> str:
        """Whether the rate is the lowest or highest tried, so that a better one may be beyond."""
        ends = {min(self.values): "lowest", max(self.values): "highest"}
        return ends.get(self.rate, "") if len(self.values) > 1 else ""


def rate_choices(pilots: Results) -> dict[str, RateChoice]:
    """Return the choice of each family: the rate with the best value, the lower of equal ones.

    Raises:
        ValueError: a family has no pilot with a result.
    """
    metric = pilots.metric(pilots.study.metric)
    choices, problems = dict[str, RateChoice](), []
    for family, cells in cells_by_family(pilots).items():
        values = {float(c.cell.settings["lr"]): c.mean(metric) for c in cells}
        merits = {rate: metric.merit(v) for rate, v in sorted(values.items()) if v is not None}
        if merits:
            variant = cells[0].cell.variant
            name = variant.label if variant else family
            choices[family] = RateChoice(name, max(merits, key=lambda r: merits[r]), values)
        else:
            states = ", ".join(cell.status_text for cell in cells)
            problems.append(f"no pilot training of {family} has a result ({states})")
    if problems:
        raise ValueError(f"{'; '.join(problems)}: give other rates with --rates, in another folder")
    return choices


def best_cells(pilots: Results, number: int | None) -> dict[str, list[Family]]:
    """Return the networks of each family with the best pilots, best first, at most ``number``.

    Raises:
        ValueError: a family has no pilot with a result.
    """
    metric = pilots.metric(pilots.study.metric)
    best: dict[str, list[Family]] = {}
    for family, cells in cells_by_family(pilots).items():
        merits = {
            cell.cell.variant: metric.merit(value)
            for cell in cells
            if cell.cell.variant is not None and (value := cell.mean(metric)) is not None
        }
        best[family] = sorted(merits, key=lambda v: -merits[v])[:number]
    if empty := [family for family, networks in best.items() if not networks]:
        raise ValueError(f"no pilot training of {', '.join(empty)} has a result")
    return best


def cells_by_family(results: Results) -> dict[str, list[CellResult]]:
    """Return the cells of a comparison of families by family, in plan order."""
    families: dict[str, list[CellResult]] = {}
    for cell in results.cells:
        families.setdefault(str(cell.cell.requested.get("family", "")), []).append(cell)
    return families
