"""What extra seeds pay: ``python -m archsearch.benchmarks.seeds``.

Studies with known means are simulated and played by each rule: ``--seeds auto``
(`archsearch.stats.seeds`), the rule of archsearch before (more seeds for tied cells, by a step-down
test after every seed with Bonferroni's correction), the same number of seeds for all cells, and
sequential halving (the better half gets as many trainings as were spent before). Printed per truth
and rule: mean number of trainings, share of studies that choose the best cell, regret of the choice
in deviations of the noise, number of cells tied with the best, and share of studies in which the
best cell is among them.
"""

import argparse
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from archsearch.cli.output import print_rows
from archsearch.stats.paired_model import (
    balanced_design,
    paired_model,
    simulate_null,
    step_down,
)
from archsearch.stats.ranking import Table, tied_with_best
from archsearch.stats.seeds import next_seeds

Array = NDArray[np.float64]
Outcome = tuple[int, int, frozenset[int]]
"""Number of trainings, the chosen cell, and the cells tied with it (empty: not tested)."""

MAX_SEEDS = 5
PUBLISHED = (47.7, 47.3, 46.7, 46.7, 46.6, 46.6, 46.0, 46.0, 45.2, 45.2, 45.2, 45.1, 44.9, 44.8,
             44.5, 44.4, 41.9, 41.7, 41.6, 40.7)  # fmt: skip
PUBLISHED_DEVIATION = 0.9
"""Means and residual deviation (points of accuracy) of the networks of the published grid."""

TRUTHS: Mapping[str, Array] = {
    "one best, 29 worse by 2.5": np.where(np.arange(30) == 0, 0.0, -2.5),
    "slope of 0.25 over 30": -0.25 * np.arange(30, dtype=float),
    "published grid": np.array(PUBLISHED) / PUBLISHED_DEVIATION,
}
"""Mean of each cell in deviations of the noise; cell 0 is the best."""


def auto(values: Array) -> Outcome:
    """``--seeds auto`` as it is."""
    table: dict[int, dict[int, float | None]] = {i: {} for i in range(len(values))}
    while not (plan := next_seeds(table, MAX_SEEDS)).done:
        for cell, seed in plan.trainings:
            table[cell][seed] = float(values[cell, seed])
    return _outcome(sum(map(len, table.values())), plan.ranking.best, plan.ranking.tied)


def auto_before(values: Array) -> Outcome:
    """The rule before: every tied cell gets a seed, tested from two seeds on."""
    tied, trainings = np.arange(len(values)), 0
    for n in range(1, MAX_SEEDS + 1):
        trainings += len(tied)
        if n > 1:
            tied = tied[_step_down(values[tied, :n])]
        if len(tied) == 1:
            break
    best = tied[values[tied, :n].mean(1).argmax()]
    return _outcome(trainings, best, tied.tolist())


def _step_down(values: Array) -> NDArray[np.bool_]:
    """Return the cells that are tied; 1,000 draws of the null, which the rule took 4,000 of."""
    design = balanced_design(*values.shape)
    null = simulate_null(design, "moderated", unequal=True, draws=1000)
    observed = paired_model(design).statistic(values.reshape(1, -1), "moderated")[0]
    return np.asarray(step_down(observed, null) > 0.05 / (MAX_SEEDS - 1))


def uniform(values: Array, seeds: int) -> Outcome:
    """The same seeds for every cell, tested once."""
    table: Table[int] = {i: dict(enumerate(row)) for i, row in enumerate(values[:, :seeds])}
    ranking = tied_with_best(table)
    return _outcome(len(values) * seeds, ranking.best, ranking.tied)


def sequential_halving(values: Array) -> Outcome:
    """Two seeds for all cells; then the better half shares as many trainings as were spent."""
    cells, sums, counts = np.arange(len(values)), np.zeros(len(values)), 0
    trainings, per_round = 0, 2 * len(values)
    while len(cells) > 1 and counts < values.shape[1]:
        more = min(max(1, per_round // len(cells)), values.shape[1] - counts)
        sums[cells] += values[cells, counts : counts + more].sum(1)
        counts, trainings = counts + more, trainings + more * len(cells)
        cells = cells[np.argsort(-sums[cells], kind="stable")][: max(1, len(cells) // 2)]
        per_round = per_round // 2
    return _outcome(trainings, cells[0], ())


def _outcome(trainings: int, best: object, tied: object) -> Outcome:
    return trainings, int(best), frozenset(tied)  # type: ignore[call-overload]


RULES: dict[str, Callable[[Array], Outcome]] = {
    "auto": auto,
    "auto before": auto_before,
    "3 seeds": lambda values: uniform(values, 3),
    "5 seeds": lambda values: uniform(values, 5),
    "sequential halving": sequential_halving,
}


def measure(truth: Array, rule: Callable[[Array], Outcome], studies: int) -> dict[str, str]:
    """Play a rule on simulated studies of one truth."""
    rng = np.random.default_rng(3)
    values = (truth[:, None] + rng.normal(size=(len(truth), 20)) for _ in range(studies))
    outcomes = [rule(study) for study in values]
    sizes = [len(tied) for *_, tied in outcomes if tied]
    return {
        "trainings": f"{np.mean([trainings for trainings, *_ in outcomes]):.1f}",
        "chooses the best": f"{np.mean([best == 0 for _, best, _ in outcomes]):.2f}",
        "regret": f"{np.mean([truth[0] - truth[best] for _, best, _ in outcomes]):.2f}",
        "tied": f"{np.mean(sizes):.1f}" if sizes else "",
        "best is tied": f"{np.mean([0 in t for *_, t in outcomes if t]):.3f}" if sizes else "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=200)
    options = parser.parse_args()
    print_rows(
        [
            {"truth": truth, "rule": name, **measure(means, rule, options.studies)}
            for truth, means in TRUTHS.items()
            for name, rule in RULES.items()
        ]
    )


if __name__ == "__main__":
    main()
