"""The trainings of a ladder of one (alpha, beta), and the law that is fitted to them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from archsearch.reports.comparable_runs import Runs, comparable_groups, runs_by_name
from archsearch.reports.context import Context, Contexts
from archsearch.reports.ladder_sizes import Rung, left_out_texts, sizes_of
from archsearch.results import CellResult
from archsearch.stats.floor import FloorLaw, fit_with_floor
from archsearch.stats.law import (
    MAX_EXTRAPOLATION,
    Law,
    Points,
    Prediction,
    Score,
    fit,
    predict,
    score,
)

Rule = tuple[float, float]


@dataclass(frozen=True)
class Ladder:
    """One (alpha, beta): its law, the test of the law, and predictions for untrained sizes.

    ``points`` maps parameters (in the paper's counting) to the validation error in percent of every
    seed; ``runs`` are the names of their runs. ``test`` is None below
    three sizes, since two points determine a line, and if the largest is beyond
    `MAX_EXTRAPOLATION`. ``left_out`` says which sizes and seeds the law does not have, and why.
    ``floor`` is a law with a floor if the data identify one. From five sizes on predictions include
    laws with a floor, identified or not.
    ``too_far`` are untrained sizes beyond `MAX_EXTRAPOLATION`, which are not predicted.
    ``is_one_of_several`` is True if the pair has further laws, of other origins or roundings.
    """

    rule: Rule
    points: Mapping[float, Sequence[float]]
    law: Law
    test: Score | None
    predictions: tuple[Prediction, ...]
    runs: tuple[str, ...]
    left_out: tuple[str, ...]
    floor: FloorLaw | None = None
    too_far: tuple[float, ...] = ()
    is_one_of_several: bool = False

    @property
    def name(self) -> str:
        pair = pair_text(self.rule)
        return f"{pair} ({', '.join(self.runs)})" if self.is_one_of_several else pair


def pair_text(rule: Rule) -> str:
    """Return ``α 1.09, β 1.36``."""
    return f"α {rule[0]:g}, β {rule[1]:g}"


def ladders(contexts: Contexts) -> list[Ladder]:
    """Return the laws of all groups of `grouped_ladders`."""
    return [ladder for group in grouped_ladders(contexts) for ladder in group]


def grouped_ladders(contexts: Contexts) -> list[tuple[Ladder, ...]]:
    """Return a law per (alpha, beta) that has finished trainings at two sizes or more.

    A group holds the laws of runs with the same recipe and data; only these are comparable. Runs
    are pooled unless they have different networks for one phi of a pair. The law is fitted to the
    mean error of each size; a mean of zero is left out, since a power law has no zero.
    """
    groups = (_ladders_of_group(group) for group in _groups(contexts))
    return [ladders for ladders in groups if ladders]


def left_out(contexts: Contexts) -> list[str]:
    """Return the sizes and seeds of ladders that are in no law, with the reason, as text."""
    return [
        f"{pair_text(rule)} at {text}"
        for group in _groups(contexts)
        for rule, rungs in _rungs_by_rule(group).items()
        for part in _consistent_parts(rungs)
        if len(sizes := sizes_of(part)) > 1
        for text in left_out_texts(sizes)
    ]


def _groups(contexts: Contexts) -> list[dict[str, Context]]:
    return comparable_groups(runs_by_name(contexts))


def _ladders_of_group(group: Runs) -> tuple[Ladder, ...]:
    rungs = _rungs_by_rule(group)
    return tuple(ladder for rule in rungs for ladder in _ladders_of(rule, rungs[rule]))


def _rungs_by_rule(group: Runs) -> dict[Rule, list[Rung]]:
    rungs: dict[Rule, list[Rung]] = {}
    for name, run in group.items():
        for rule, cell in rungs_of(run):
            rungs.setdefault(rule, []).append((name, cell))
    return dict(sorted(rungs.items()))


def _ladders_of(rule: Rule, rungs: Sequence[Rung]) -> list[Ladder]:
    parts = (_ladder(rule, part) for part in _consistent_parts(rungs))
    ladders = [ladder for ladder in parts if ladder is not None]
    return [replace(ladder, is_one_of_several=len(ladders) > 1) for ladder in ladders]


def _consistent_parts(rungs: Sequence[Rung]) -> list[list[Rung]]:
    """Split the cells into groups of runs that have the same network at each phi.

    Growing one origin by one pair and one rounding gives one network per phi. Runs without a common
    phi may still have different origins, since a cell does not store its origin.
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
    """Yield the cells that were requested by (alpha, beta) and have a network."""
    for cell in run.cells:
        requested = cell.cell.requested
        if cell.cell.cost is not None and {"alpha", "beta"} <= set(requested):
            yield (float(requested["alpha"]), float(requested["beta"])), cell


def _ladder(rule: Rule, rungs: Sequence[Rung]) -> Ladder | None:
    """Return the law through these cells, each with the name of its run; None below two sizes."""
    sizes = sizes_of(rungs)
    points = {size: one.errors for size, one in sizes.items() if one.is_point}
    if len(points) < 2:
        return None
    floor = fit_with_floor(points)
    untrained = [size for size, one in sizes.items() if one.unfinished and not one.errors]
    larger = sorted(size for size in untrained if size > max(points))
    near = [size for size in larger if size <= MAX_EXTRAPOLATION * max(points)]
    runs = dict.fromkeys(name for size in points for name in sizes[size].runs)
    return Ladder(
        rule, points, fit(points), _test(points),
        predictions=tuple(_predict(points, size) for size in near),
        runs=(*runs,), left_out=left_out_texts(sizes),
        floor=floor if floor is not None and floor.is_identified else None,
        too_far=tuple(larger[len(near) :]),
    )  # fmt: skip


def _predict(points: Points, size: float) -> Prediction:
    """Predict from a law that may have a floor if sizes suffice, else from a straight one."""
    law = fit_with_floor(points)
    return predict(fit(points), size) if law is None else law.predict(size)


def _test(points: Points) -> Score | None:
    """Predict the largest size from the smaller ones and compare it with the measurement."""
    largest = max(points)
    smaller = {size: errors for size, errors in points.items() if size != largest}
    if len(smaller) < 2 or largest > MAX_EXTRAPOLATION * max(smaller):
        return None
    return score(_predict(smaller, largest), points[largest])
