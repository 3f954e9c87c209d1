"""A replay of successive halving on the records of a complete grid at every rung."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from statistics import fmean

from archsearch.core.family import Family
from archsearch.core.metrics import Metric
from archsearch.core.task import Data, Task
from archsearch.searching.adaptive_plan import drive
from archsearch.searching.gate import Pilot, pilot_by_cost
from archsearch.searching.halving import halving
from archsearch.searching.rungs import Rung
from archsearch.study import Record, Trial
from archsearch.tasks.classification import CLASSIFICATION

Scores = Mapping[Family, Mapping[int, float]]
"""Network -> seed -> the result of a training; higher is better."""


@dataclass(frozen=True)
class Choice:
    """The cost and the choice of one search method, compared with the grid of the same seeds.

    ``epochs`` and ``seconds`` are shares of the grid's. ``loss`` is how much worse the chosen
    network is than the grid's choice. It may be negative, because noise affects both choices.
    """

    epochs: float
    seconds: float
    loss: float
    chosen: str = ""
    gates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Replay:
    """The records of a grid at every rung; all ``networks`` have all ``seeds``."""

    ladder: Sequence[Rung]
    networks: Sequence[Family]
    seeds: Sequence[int]
    data: Data
    records: Mapping[str, Record]
    by: Metric
    task: Task = CLASSIFICATION

    def record(self, rung: Rung, network: Family, seed: int) -> Record:
        """Return the record of one training."""
        return self.records[self._trial(rung, network, seed).id]

    def _trial(self, rung: Rung, network: Family, seed: int) -> Trial:
        return Trial(network, rung.recipe, self.data, seed, self.task)

    def scores(self, rung: Rung) -> Scores:
        """Return the results of every network at a rung."""
        return {v: {s: self._merit(rung, v, s) for s in self.seeds} for v in self.networks}

    def _merit(self, rung: Rung, network: Family, seed: int) -> float:
        value = self.by.value_of(self.record(rung, network, seed))
        assert value is not None, "read() checks this"
        return self.by.merit(value)

    def halve(self, seeds: Sequence[int], force: bool = False) -> Choice:
        """Return what ``--prune`` would have chosen; the first two of ``seeds`` are the pilot's,
        and a single one is joined by another of the replay."""
        used: dict[str, Record] = {}

        def record_of(trial_id: str) -> Record:
            return used.setdefault(trial_id, self.records[trial_id])

        pilot_seeds = tuple(dict.fromkeys((*seeds, *self.seeds)))[:2]
        steps = halving(
            self.networks,
            self.ladder,
            self.data,
            seeds,
            Pilot(pilot_by_cost({v: v.cost().macs for v in self.networks}), pilot_seeds),
            task=self.task,
            measure=self.by.name,
            force=force,
        )
        outcome = drive(steps, record_of)
        assert outcome is not None, "a record is missing"
        in_full = [
            v
            for v in self.networks
            if all(self._trial(self.ladder[-1], v, seed).id in used for seed in seeds)
        ]
        scores = self.scores(self.ladder[-1])
        chosen = best(scores, seeds, in_full)
        return Choice(
            outcome.spent / outcome.grid,
            sum(r.seconds for r in used.values()) / self._grid_seconds(seeds),
            self._grid_value(scores, seeds) - judged(scores, seeds, chosen),
            chosen.name,
            tuple(gate.reason for gate in outcome.gates),
        )

    def at_random(self, seeds: Sequence[int], epochs: float) -> Choice:
        """Return the expected best of a random part of the grid with this share of the epochs.

        The expectation is exact: the r-th best of n networks is the best of k drawn ones with
        probability C(n-r, k-1) / C(n, k).
        """
        scores, n = self.scores(self.ladder[-1]), len(self.networks)
        k = max(1, min(n, round(epochs * n)))
        order = sorted(self.networks, key=lambda v: -mean(scores, v, seeds))
        probabilities = [comb(n - r, k - 1) / comb(n, k) for r in range(1, n + 1)]
        expected = sum(
            p * judged(scores, seeds, v) for p, v in zip(probabilities, order, strict=True)
        )
        return Choice(k / n, k / n, self._grid_value(scores, seeds) - expected)

    def _grid_value(self, scores: Scores, seeds: Sequence[int]) -> float:
        return judged(scores, seeds, best(scores, seeds, self.networks))

    def _grid_seconds(self, seeds: Sequence[int]) -> float:
        full = self.ladder[-1]
        return sum(self.record(full, v, s).seconds for v in self.networks for s in seeds)


def mean(scores: Scores, network: Family, seeds: Sequence[int]) -> float:
    """Return a network's mean over these seeds."""
    return fmean(scores[network][seed] for seed in seeds)


def best(scores: Scores, seeds: Sequence[int], among: Sequence[Family]) -> Family:
    """Return the network with the best mean over these seeds."""
    return max(among, key=lambda v: mean(scores, v, seeds))


def judged(scores: Scores, seeds: Sequence[int], network: Family) -> float:
    """Return a network's mean over the seeds that did not choose it; over all if all did."""
    others = [seed for seed in scores[network] if seed not in seeds]
    return mean(scores, network, others or seeds)
