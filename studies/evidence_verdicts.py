"""The verdict on each of the paper's four orderings, from the records of `evidence`.

`evidence.md` states the analysis; it was committed before the first training.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from archsearch.results import LEVEL, CellResult, Results
from archsearch.space.scaling import BEST_PAIR
from archsearch.stats.additive_design import Array
from archsearch.stats.contrasts import (
    ContrastTest,
    Numbers,
    contrast_test,
    one_against_the_rest,
    step,
)
from archsearch.stats.noise import noise_deviation
from archsearch.stats.p_values import holm
from archsearch.studies.evidence import NUM_SEEDS, NUM_SEEDS_OF_PAIRS, pairs, stacking

Verdict = Literal["confirmed", "contradicted", "bounded", "interim"]

METRICS = {"val_accuracy": 1.0, "val_loss": -1.0, "test_accuracy": 1.0}
"""Metric -> sign, so that a positive effect is better. The first one decides; the second is a
second criterion, and the test split is reported beside them."""


@dataclass(frozen=True)
class Ordering:
    """One ordering of the paper: its text, its run, and the contrast of the networks in ``block``.

    The contrast is positive if the paper's order holds. ``num_seeds`` are planned.
    """

    name: str
    text: str
    run: str
    block: Callable[[Mapping[str, Any]], bool]
    weights: Callable[[Sequence[Numbers]], Array | None]
    num_seeds: int


STACKING, TABLE_C = stacking(seeds=(0,)).name, pairs(seeds=(0,)).name

ORDERINGS = (
    Ordering(
        "C'", "C' = 4 above C' = 8", STACKING, lambda cell: cell["c1"] == 16,
        lambda networks: step(networks, "group_channels", 8, 4), NUM_SEEDS,
    ),
    Ordering(
        "L1", "L1 = 4 above the mean of L1 = 1, 2, 3 and 5", STACKING,
        lambda cell: cell["c1"] == 16,
        lambda networks: one_against_the_rest(networks, "l1", 4), NUM_SEEDS,
    ),
    Ordering(
        "C1", "C1 = 24 above C1 = 20", STACKING, lambda cell: cell["c1"] > 16,
        lambda networks: step(networks, "c1", 20, 24), NUM_SEEDS,
    ),
    Ordering(
        "(alpha, beta)", "(1.09, 1.36) above the mean of the other four pairs", TABLE_C,
        lambda _: True,
        lambda networks: one_against_the_rest(networks, "alpha", BEST_PAIR[0]), NUM_SEEDS_OF_PAIRS,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """The test of one ordering by one metric; ``test`` is None below two complete seeds.

    ``seeds_left_out`` lack the value of a network. ``deviation`` is the noise of the networks.
    """

    ordering: Ordering
    metric: str
    test: ContrastTest | None
    adjusted_p_value: float
    verdict: Verdict
    seeds_left_out: tuple[int, ...]
    deviation: float

    def interval(self) -> tuple[float, float]:
        """Return the interval that covers all four effects with 95% (Bonferroni)."""
        assert self.test is not None, "no interval below two seeds"
        interval = self.test.interval(1 - (1 - LEVEL) / len(ORDERINGS))
        assert interval.low is not None
        assert interval.high is not None
        return interval.low, interval.high

    def outcome(self) -> str:
        """Return the verdict, and what is excluded or how many seeds are complete."""
        digits, num_seeds = self._digits, 0 if self.test is None else self.test.num_seeds
        if self.verdict == "interim":
            return f"interim: {num_seeds} of {self.ordering.num_seeds} seeds are complete"
        if self.verdict != "bounded":
            return self.verdict
        low, high = self.interval()
        return (
            f"bounded: an advantage over {max(high, 0):.{digits}f} and a disadvantage over "
            f"{max(-low, 0):.{digits}f} are excluded"
        )

    def effect(self) -> str:
        """Return the estimate, its interval and the adjusted p-value; a dash below two seeds."""
        if self.test is None:
            return "–"
        (low, high), digits = self.interval(), self._digits
        return (
            f"{self.test.estimate:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f}), "
            f"p = {self.adjusted_p_value:.3f}"
        )

    @property
    def _digits(self) -> int:
        return 3 if self.metric == "val_loss" else 2


def findings(runs: Mapping[str, Results], ended: bool = False) -> list[Finding]:
    """Return the finding of every ordering by every metric, from runs by their study's name.

    While trainings are missing the verdict is ``interim``. ``ended`` says that the study has ended
    before its plan is done; the verdicts then are those of the seeds that it has.
    """
    return [finding for metric in METRICS for finding in _findings(runs, metric, ended)]


def _findings(runs: Mapping[str, Results], metric: str, ended: bool) -> list[Finding]:
    tables = {o.name: _Table.of(o, runs.get(o.run), metric) for o in ORDERINGS}
    tests = {name: table.test() for name, table in tables.items()}
    adjusted = holm({name: 1.0 if t is None else t.p_value for name, t in tests.items()})
    return [
        Finding(
            ordering=o,
            metric=metric,
            test=tests[o.name],
            adjusted_p_value=adjusted[o.name],
            verdict=_verdict(tests[o.name], adjusted[o.name], ended or tables[o.name].complete),
            seeds_left_out=tables[o.name].left_out,
            deviation=tables[o.name].deviation,
        )
        for o in ORDERINGS
    ]


def _verdict(test: ContrastTest | None, adjusted: float, is_final: bool) -> Verdict:
    if test is None or not is_final:
        return "interim"
    if adjusted > 1 - LEVEL:
        return "bounded"
    return "confirmed" if test.estimate > 0 else "contradicted"


@dataclass(frozen=True)
class _Table:
    """The values of an ordering's networks on the seeds that all of them have."""

    weights: Array | None
    values: Array
    left_out: tuple[int, ...]
    complete: bool
    deviation: float

    @classmethod
    def of(cls, ordering: Ordering, results: Results | None, metric: str) -> "_Table":
        cells = _block(ordering, results)
        rows = [_values(cell, metric) for cell in cells]
        ended = {seed for row in rows for seed in row}
        used = sorted(s for s in ended if all(row.get(s) is not None for row in rows))
        complete = bool(rows) and all(
            seed in row for row in rows for seed in range(ordering.num_seeds)
        )
        networks = [_numbers(cell) for cell in cells]
        return cls(
            ordering.weights(networks) if networks else None,
            np.array([[row[seed] for seed in used] for row in rows], dtype=float),
            tuple(sorted(ended - set(used))),
            complete,
            noise_deviation({i: {s: row[s] for s in used} for i, row in enumerate(rows)})[0],
        )

    def test(self) -> ContrastTest | None:
        if self.weights is None or self.values.shape[1] < 2:
            return None
        return contrast_test(self.values, self.weights.tolist())


def _block(ordering: Ordering, results: Results | None) -> list[CellResult]:
    cells = () if results is None else results.cells
    return [cell for cell in cells if ordering.block(cell.cell.requested)]


def _numbers(cell: CellResult) -> dict[str, float]:
    """Return the numbers that a contrast compares; a pair is named by its alpha."""
    names = [n for n in ("c1", "group_channels", "l1", "alpha") if n in cell.cell.requested]
    return {name: float(cell.cell.requested[name]) for name in names}


def _values(cell: CellResult, metric: str) -> dict[int, float | None]:
    """Return seed -> value of every ended training, better if larger; None if it has no result."""
    ended = {t.trial.seed: t.record for t in cell.trials if t.record is not None}
    return {
        seed: None if (v := record.metrics.get(metric)) is None else METRICS[metric] * float(v)
        for seed, record in ended.items()
    }
