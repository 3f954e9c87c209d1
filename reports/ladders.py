"""Which trainings make a ladder of one (alpha, beta), and the law that is fitted to it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from archsearch.core.metrics import METRICS
from archsearch.reports.comparable_runs import Runs, groups, named
from archsearch.results import UNFINISHED, CellResult, Results
from archsearch.stats.law import Law, Prediction, Score, fit, predict, score

Rule = tuple[float, float]
Rung = tuple[str, CellResult]
"""A cell of a ladder, with the name of its run."""

ERROR = METRICS["val_error"]


@dataclass(frozen=True)
class Ladder:
    """One (alpha, beta): its law, the test of it, and what it foretells for sizes not trained.

    ``points`` are parameters (counted as the paper counts) -> validation error in percent of every
    seed; ``runs`` names where they come from. ``tested`` is None below three sizes: a line through
    one or two points tests nothing. ``perfect`` are the sizes left out for an error of zero.
    ``of_several`` if the pair has more laws than this one, for other origins or roundings.
    """

    rule: Rule
    points: Mapping[float, Sequence[float]]
    law: Law
    tested: Score | None
    ahead: tuple[Prediction, ...]
    runs: tuple[str, ...]
    perfect: tuple[float, ...]
    of_several: bool = False

    @property
    def name(self) -> str:
        pair = f"α {self.rule[0]:g}, β {self.rule[1]:g}"
        return f"{pair} ({', '.join(self.runs)})" if self.of_several else pair


def ladders(results: Sequence[Results]) -> list[Ladder]:
    """Every law of `grouped`, group by group."""
    return [ladder for found in grouped(results) for ladder in found]


def grouped(results: Sequence[Results]) -> list[tuple[Ladder, ...]]:
    """A law per (alpha, beta) that has finished trainings at two sizes or more.

    Runs are pooled only if they share recipe and data, and have no two networks for one phi of a
    pair; laws compare only within such a group.
    Sizes with an error of zero are left out: a power law has no zero.
    """
    return [found for group in groups(named(results)) if (found := _ladders(group))]


def _ladders(group: Runs) -> tuple[Ladder, ...]:
    rungs: dict[Rule, list[Rung]] = {}
    for name, run in group.items():
        for rule, cell in rungs_of(run):
            rungs.setdefault(rule, []).append((name, cell))
    return tuple(ladder for rule, found in sorted(rungs.items()) for ladder in _laws(rule, found))


def _laws(rule: Rule, rungs: Sequence[Rung]) -> list[Ladder]:
    found = [law for part in _consistent(rungs) if (law := _ladder(rule, part)) is not None]
    return [replace(law, of_several=len(found) > 1) for law in found]


def _consistent(rungs: Sequence[Rung]) -> list[list[Rung]]:
    """Each run with the first ones that it does not contradict.

    An origin that grows by one pair and one rounding has one network at each phi. Runs that share
    no phi may still have different origins: a cell does not say where it was grown from.
    """
    parts: list[list[Rung]] = []
    for name in dict.fromkeys(name for name, _ in rungs):
        run = [rung for rung in rungs if rung[0] == name]
        part = next((part for part in parts if _agree(part, run)), None)
        if part is None:
            parts.append(run)
        else:
            part += run
    return parts


def _agree(one: Sequence[Rung], other: Sequence[Rung]) -> bool:
    networks = {cell.cell.asked.get("phi"): cell.cell.variant for _, cell in one}
    return all(
        networks.get(cell.cell.asked.get("phi"), cell.cell.variant) == cell.cell.variant
        for _, cell in other
    )


def rungs_of(run: Results) -> Iterator[tuple[Rule, CellResult]]:
    """The cells that were asked for by (alpha, beta) and have a network."""
    for cell in run.cells:
        asked = cell.cell.asked
        if cell.cell.cost is not None and {"alpha", "beta"} <= set(asked):
            yield (float(asked["alpha"]), float(asked["beta"])), cell


def _ladder(rule: Rule, rungs: Sequence[Rung]) -> Ladder | None:
    """The law through these cells, each with the name of its run; None below two sizes."""
    trained: dict[float, dict[str, float]] = {}
    waiting, perfect, runs = set(), set(), {}
    for name, cell in rungs:
        assert cell.cell.cost is not None
        size = float(cell.cell.cost.params)
        errors = {t.trial.id: v for t in cell.trials if (v := t.value(ERROR)) is not None}
        if errors and min(errors.values()) > 0:
            trained.setdefault(size, {}).update(errors)
            runs[name] = True
        elif cell.state in UNFINISHED:
            waiting.add(size)
        elif errors:
            perfect.add(size)
    if len(trained) < 2:
        return None
    points = {size: [*errors.values()] for size, errors in trained.items()}
    law = fit(points)
    ahead = tuple(predict(law, size) for size in sorted(waiting) if size > max(points))
    return Ladder(rule, points, law, _tested(points), ahead, (*runs,), (*sorted(perfect),))


def _tested(points: Mapping[float, Sequence[float]]) -> Score | None:
    largest = max(points)
    smaller = {size: errors for size, errors in points.items() if size != largest}
    return score(predict(fit(smaller), largest), points[largest]) if len(smaller) > 1 else None
