"""Coverage of the intervals of effects: ``python -m archsearch.benchmarks.effects``.

Studies of the published grid's 20 networks are simulated without any effect. Each level of each
number shifts by chance from seed to seed, so that a step between two levels has the given deviation
(in deviations of the noise). Coverage is the share of studies whose 95% interval includes zero,
beside the median half-width. ``chosen`` is the rule of the reports; ``residual`` treats every
training as a repeat, ``clustered`` every seed. In the last case of each number of seeds, networks
with C1 = 12 are three times as noisy. Takes about four minutes.
"""

import argparse
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from archsearch.cli.output import print_rows
from archsearch.stats.additive import Errors, fit_design
from archsearch.stats.additive_design import AdditiveDesign

NETWORKS = (
    *((12, 4, l1) for l1 in range(1, 6)),
    *((16, c, l1) for c in (4, 8) for l1 in range(1, 6)),
    *((20, 4, l1) for l1 in range(1, 4)),
    *((24, 8, l1) for l1 in range(1, 3)),
)
"""(C1, C', L1) of the published grid."""

NAMES = ("C1", "C'", "L1")
CONTRASTS = (("C1", "step", 12), ("C1", "step", 16), ("C'", "step", 4), ("L1", "trend", 1))
"""(factor, kind, lower level) of the contrasts that are printed."""
LEVEL = 0.95

Array = NDArray[np.float64]
Covered = dict[tuple[str, str, int], list[tuple[bool, float]]]
"""Contrast -> whether the interval includes zero, and its half-width, per study."""


def simulate(rng: np.random.Generator, num_seeds: int, interaction: float, noise: Array) -> Array:
    """Return the values (networks * seeds) of a study in which no number has an effect."""
    values = rng.normal(size=(len(NETWORKS), num_seeds)) * noise[:, None]
    for column in zip(*NETWORKS, strict=True):
        _, level = np.unique(column, return_inverse=True)
        shifts = rng.normal(size=(level.max() + 1, num_seeds)) * interaction / 2**0.5
        values += shifts[level]
    return values.ravel()


def design(num_seeds: int) -> AdditiveDesign:
    """Return the design of the published networks, all on all seeds."""
    factors = {
        name: np.repeat(column, num_seeds).tolist()
        for name, column in zip(NAMES, zip(*NETWORKS, strict=True), strict=True)
    }
    return AdditiveDesign(factors, list(range(num_seeds)) * len(NETWORKS))


def measure(
    num_seeds: int, interaction: float, noise: Array, studies: int
) -> dict[Errors, Covered]:
    """Return what the intervals of each rule cover."""
    rng, planned = np.random.default_rng(11), design(num_seeds)
    numbers: dict[Errors, Covered] = {rule: {} for rule in get_args(Errors)}
    for _ in range(studies):
        values = simulate(rng, num_seeds, interaction, noise)
        for rule, covered in numbers.items():
            fit = fit_design(values.tolist(), planned, rule)
            for contrast in (*fit.trends, *fit.steps):
                interval = contrast.interval(LEVEL, 0)
                key = contrast.factor, contrast.kind, contrast.low
                covered.setdefault(key, []).append((0.0 in interval, interval.half_width or 0.0))
    return numbers


def rows(seeds: list[int], studies: int) -> Iterator[dict[str, Any]]:
    """Yield a row per number of seeds, case and rule."""
    equal = np.ones(len(NETWORKS))
    noisy = np.array([3.0 if c1 == 12 else 1.0 for c1, _, _ in NETWORKS])
    for n in seeds:
        cases = [(f"interaction {tau:g}", tau, equal) for tau in (0.0, 0.5, 1.0)]
        for case, interaction, noise in [*cases, ("C1 = 12 3x as noisy", 0.0, noisy)]:
            for rule, numbers in measure(n, interaction, noise, studies).items():
                row = {"seeds": n, "case": case, "errors": rule}
                yield row | {_name(key): _text(numbers[key]) for key in CONTRASTS}


def _name(contrast: tuple[str, str, int]) -> str:
    factor, kind, low = contrast
    return f"{factor} {kind}" + (f" from {low}" if kind == "step" else "")


def _text(covered: list[tuple[bool, float]]) -> str:
    shares, widths = zip(*covered, strict=True)
    return f"{np.mean(shares):.3f} ± {np.median(widths):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 12])
    parser.add_argument("--studies", type=int, default=500)
    options = parser.parse_args()
    print_rows(list(rows(options.seeds, options.studies)))


if __name__ == "__main__":
    main()
