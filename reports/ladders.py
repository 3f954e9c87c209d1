"""Which trainings make a ladder of one (alpha, beta), and the law that is fitted to it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from archsearch.reports.comparable_runs import Runs, comparable_groups, named
from archsearch.reports.context import Context, Contexts
from archsearch.results import UNFINISHED, CellResult, TrialResult
from archsearch.stats.law import Law, Prediction, Score, fit, predict, score

Rule = tuple[float, float]
Rung = tuple[str, CellResult]
"""A cell of a ladder, with the name of its run."""


@dataclass(frozen=True)
class Ladder:
    """One (alpha, beta): its law, the test of it, and its predictions for sizes not trained.

    ``points`` are parameters (counted as the paper counts) -> validation error in percent of every
    seed; ``runs`` names where they come from. ``test`` is None below three sizes: a line through
    one or two points tests nothing. ``zero_errors`` are the sizes left out for an error of zero.
    ``of_several`` if the pair has more laws than this one, for other origins or roundings.
    """

    rule: Rule
    points: Mapping[float, Sequence[float]]
    law: Law
    test: Score | None
    predictions: tuple[Prediction, ...]
    runs: tuple[str, ...]
    zero_errors: tuple[float, ...]
    of_several: bool = False

    @property
    def name(self) -> str:
        pair = f"α {self.rule[0]:g}, β {self.rule[1]:g}"
        return f"{pair} ({', '.join(self.runs)})" if self.of_several else pair


def ladders(contexts: Contexts) -> list[Ladder]:
    """Every law of `grouped_ladders`, group by group."""
    return [ladder for group in grouped_ladders(contexts) for ladder in group]


def grouped_ladders(contexts: Contexts) -> list[tuple[Ladder, ...]]:
    """A law per (alpha, beta) that has finished trainings at two sizes or more.

    Runs are pooled only if they share recipe and data, and have no two networks for one phi of a
    pair; laws compare only within such a group.
    Sizes with an error of zero are left out: a power law has no zero.
    """
    groups = comparable_groups(named(contexts))
    return [ladders for group in groups if (ladders := _ladders_of_group(group))]


def _ladders_of_group(group: Runs) -> tuple[Ladder, ...]:
    rungs: dict[Rule, list[Rung]] = {}
    for name, run in group.items():
        for rule, cell in rungs_of(run):
            rungs.setdefault(rule, []).append((name, cell))
    return tuple(ladder for rule in sorted(rungs) for ladder in _ladders_of(rule, rungs[rule]))


def _ladders_of(rule: Rule, rungs: Sequence[Rung]) -> list[Ladder]:
    parts = (_ladder(rule, part) for part in _consistent_parts(rungs))
    ladders = [ladder for ladder in parts if ladder is not None]
    return [replace(ladder, of_several=len(ladders) > 1) for ladder in ladders]


def _consistent_parts(rungs: Sequence[Rung]) -> list[list[Rung]]:
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
    networks = {cell.cell.requested.get("phi"): cell.cell.variant for _, cell in one}
    return all(
        networks.get(cell.cell.requested.get("phi"), cell.cell.variant) == cell.cell.variant
        for _, cell in other
    )


def rungs_of(run: Context) -> Iterator[tuple[Rule, CellResult]]:
    """The cells that were asked for by (alpha, beta) and have a network."""
    for cell in run.cells:
        asked = cell.cell.requested
        if cell.cell.cost is not None and {"alpha", "beta"} <= set(asked):
            yield (float(asked["alpha"]), float(asked["beta"])), cell


def _error(result: TrialResult) -> float | None:
    """What a law is fitted to: the task's error."""
    task = result.trial.task
    return result.value(task.metric(task.error)) if task.error else None


def _ladder(rule: Rule, rungs: Sequence[Rung]) -> Ladder | None:
    """The law through these cells, each with the name of its run; None below two sizes."""
    trained: dict[float, dict[str, float]] = {}
    waiting, zero_errors, runs = set(), set(), {}
    for name, cell in rungs:
        assert cell.cell.cost is not None
        size = float(cell.cell.cost.params)
        errors = {t.trial.id: v for t in cell.trials if (v := _error(t)) is not None}
        if errors and min(errors.values()) > 0:
            trained.setdefault(size, {}).update(errors)
            runs[name] = True
        elif cell.state in UNFINISHED:
            waiting.add(size)
        elif errors:
            zero_errors.add(size)
    if len(trained) < 2:
        return None
    points = {size: [*errors.values()] for size, errors in trained.items()}
    law = fit(points)
    ahead = tuple(predict(law, size) for size in sorted(waiting) if size > max(points))
    return Ladder(rule, points, law, _test(points), ahead, (*runs,), (*sorted(zero_errors),))


def _test(points: Mapping[float, Sequence[float]]) -> Score | None:
    """The largest size, predicted from the smaller ones."""
    largest = max(points)
    smaller = {size: errors for size, errors in points.items() if size != largest}
    return score(predict(fit(smaller), largest), points[largest]) if len(smaller) > 1 else None
