"""Coverage and power of ``tied with the best``: ``python -m archsearch.benchmarks.ranking``.

Studies with a known best cell are simulated, and each procedure says which cells are tied with the
best. Coverage is the share of studies in which the best cell is among them, when all cells are
equal (the least favorable case; 95% is nominal). Power is the share of the other cells that are
excluded when one cell is better than all others by a gap in standard deviations of the noise.
A seed has no effect of its own here, so that tests without pairs are not at a disadvantage.
Takes about three minutes; ``--studies`` sets the number of simulated studies per case.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats as sps

from archsearch.cli.output import print_rows
from archsearch.stats.paired_model import (
    Design,
    Variance,
    balanced_design,
    paired_model,
    simulate_null,
    step_down,
)
from archsearch.stats.ranking import tied_with_best

Array = NDArray[np.float64]
Kept = NDArray[np.bool_]
LEVEL = 0.95

Noise = Callable[[np.random.Generator, int, int], Array]
NOISES: dict[str, Noise] = {
    "equal": lambda rng, k, n: rng.normal(size=(k, n)),
    "best 3x as noisy": lambda rng, k, n: _noisy_best(rng, k, n, 3.0),
    "best 6x as noisy": lambda rng, k, n: _noisy_best(rng, k, n, 6.0),
    "unequal (lognormal 0.5)": lambda rng, k, n: (
        rng.normal(size=(k, n)) * np.exp(rng.normal(0, 0.5, (k, 1)))
    ),
    "skewed (exponential)": lambda rng, k, n: rng.exponential(size=(k, n)) - 1,
    "heavy tails (t3)": lambda rng, k, n: rng.standard_t(3, (k, n)) / math.sqrt(3),
}
"""Noise (cells, seeds) with standard deviation 1 in a usual cell; cell 0 is the best one."""


def _noisy_best(rng: np.random.Generator, k: int, n: int, factor: float) -> Array:
    return rng.normal(size=(k, n)) * np.where(np.arange(k) == 0, factor, 1.0)[:, None]


def simulate(noise: Noise, k: int, n: int, gap: float, rng: np.random.Generator) -> Array:
    """Return the values (cells, seeds) of a study whose cell 0 is better by ``gap``."""
    return np.where(np.arange(k) == 0, gap, 0.0)[:, None] + noise(rng, k, n)


def best_comparisons(values: Array, variance: Variance) -> Kept:
    """Multiple comparisons with the best, as reports use them."""
    table = {i: dict(enumerate(row)) for i, row in enumerate(values.tolist())}
    tied = set(tied_with_best(table, LEVEL, variance=variance).tied)
    return np.array([i in tied for i in table])


def step_down_max_t(values: Array) -> Kept:
    """The rule of archsearch before: every cell against the maximum over all cells."""
    design, null = _joint_null(*values.shape)
    observed = paired_model(design).statistic(values.reshape(1, -1), "moderated")[0]
    return np.asarray(step_down(observed, null) > 1 - LEVEL)


@lru_cache(maxsize=1)
def _joint_null(k: int, n: int) -> tuple[Design, Array]:
    design = balanced_design(k, n)
    return design, simulate_null(design, "moderated", unequal=True, draws=4000)


def tukey(values: Array) -> Kept:
    """Tukey's honestly significant difference from the cell with the highest mean, paired seeds."""
    k, n = values.shape
    residuals = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    freedom = (k - 1) * (n - 1)
    deviation = math.sqrt(float((residuals**2).sum()) / freedom)
    means = values.mean(1)
    return np.asarray(means.max() - means < _studentized_range(k, freedom) * deviation / n**0.5)


@lru_cache(maxsize=8)
def _studentized_range(k: int, freedom: int) -> float:
    return float(sps.studentized_range.ppf(LEVEL, k, freedom))


def welch_bonferroni(values: Array) -> Kept:
    """Welch's test of every pair, with Bonferroni's correction; seeds are not paired."""
    k, n = values.shape
    means, squares = values.mean(1), values.var(1, ddof=1) / n
    sums = squares[:, None] + squares
    difference = means[None] - means[:, None]
    freedom = sums**2 / ((squares[:, None] ** 2 + squares**2) / (n - 1))
    p = 2 * sps.t.sf(difference / np.sqrt(sums), freedom)
    return np.asarray((p > (1 - LEVEL) / (k * (k - 1) / 2)).all(1))


PROCEDURES: dict[str, Callable[[Array], Kept]] = {
    "best, moderated": lambda values: best_comparisons(values, "moderated"),
    "best, pooled": lambda values: best_comparisons(values, "pooled"),
    "step-down (before)": step_down_max_t,
    "Tukey": tukey,
    "Welch-Bonferroni": welch_bonferroni,
}


def measure(
    noise: Noise, k: int, n: int, gap: float, studies: int, procedure: Callable[[Array], Kept]
) -> tuple[float, float]:
    """Return coverage of the best cell and the share of the other cells that are excluded."""
    rng = np.random.default_rng(7)
    kept = np.array([procedure(simulate(noise, k, n, gap, rng)) for _ in range(studies)])
    return float(kept[:, 0].mean()), float(1 - kept[:, 1:].mean())


def rows(cells: int, seeds: Sequence[int], studies: int) -> list[dict[str, object]]:
    """One row per number of seeds and case: coverage at all noises, power at three gaps."""
    result: list[dict[str, object]] = []
    for n in seeds:
        cases = [(f"coverage, {name}", noise, 0.0) for name, noise in NOISES.items()]
        cases += [(f"power, gap {gap:g}", NOISES["equal"], gap) for gap in (1.0, 2.0, 4.0)]
        for name, noise, gap in cases:
            numbers = {
                procedure: measure(noise, cells, n, gap, studies, call)[gap > 0]
                for procedure, call in PROCEDURES.items()
            }
            result.append({"seeds": n, "case": name, **{k: f"{v:.3f}" for k, v in numbers.items()}})
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 10])
    parser.add_argument("--studies", type=int, default=1000)
    options = parser.parse_args()
    print_rows(rows(options.cells, options.seeds, options.studies))


if __name__ == "__main__":
    main()
