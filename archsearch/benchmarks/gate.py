"""How often the gate of halving lets a rung prune: ``python -m archsearch.benchmarks.gate``.

Pilots are simulated whose cheap and full rankings have a known tau without noise: a perfect rung
(1), a good one (0.7), one at the threshold (0.5) and a useless one (0). Reliability is the
correlation of two trainings of one length with different seeds. A short training is the beginning
of a long one, so they may share noise: ``shared`` is the correlation of their noise. The rule
before takes a single seed, and the lower 95% bound of the uncorrected tau must reach 0.5. Trainings
are those of the pilot with two cheap rungs of 2 and 7 of 20 epochs, in full trainings.
Takes about four minutes.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from archsearch.cli.output import print_rows
from archsearch.searching.gate import LEVEL, may_prune, may_prune_by_one_seed
from archsearch.stats.intervals import kendall_tau
from archsearch.stats.rank_agreement import agreement

Array = NDArray[np.float64]

RUNGS = {"perfect": 1.0, "good": 0.7, "threshold": 0.5, "useless": 0.0}
"""Rung -> true tau of its ranking with the full one."""

DESIGNS = ((8, 2), (10, 2), (15, 2), (20, 2), (10, 3))
"""Cells and seeds of a pilot."""

RELIABILITIES, SHARED = (0.5, 0.65, 0.8), (0.0, 0.5, 0.8)
COST = 0.1 + 0.35 + 1
"""A pilot cell's trainings with one seed."""


def pilot(
    rng: np.random.Generator, shape: tuple[int, int], tau: float, reliability: float, shared: float
) -> tuple[Array, Array]:
    """Return the scores of cheap and full trainings, both ``shape`` (seeds, cells).

    True scores are bivariate normal with correlation sin(pi tau / 2) (Kruskal 1958).
    """
    rho = math.sin(math.pi * tau / 2)
    full, other = rng.normal(size=(2, shape[1]))
    cheap = rho * full + math.sqrt(1 - rho**2) * other
    noise, own = math.sqrt(1 / reliability - 1) * rng.normal(size=(2, *shape))
    return cheap + math.sqrt(shared) * noise + math.sqrt(1 - shared) * own, full + noise


def passes(cheap: Array, full: Array) -> bool:
    """Return whether the rung may prune."""
    return may_prune(agreement(cheap, full))


def passes_before(cheap: Array, full: Array) -> bool:
    """Return whether the rung might prune by the rule before, with the first seed only."""
    return may_prune_by_one_seed(kendall_tau(cheap[0].tolist(), full[0].tolist(), LEVEL))


def pass_rates(
    rule: Callable[[Array, Array], bool],
    shape: tuple[int, int],
    reliability: float,
    shared: float,
    studies: int,
) -> list[float]:
    """Return the share of pilots that pass, per rung of `RUNGS`."""
    rng = np.random.default_rng(6)
    return [
        float(np.mean([rule(*pilot(rng, shape, tau, reliability, shared)) for _ in range(studies)]))
        for tau in RUNGS.values()
    ]


def rows(designs: Sequence[tuple[int, int]], studies: int) -> Iterator[dict[str, str]]:
    """Yield a row per design, reliability and share of common noise."""
    for cells, seeds in designs:
        for reliability in RELIABILITIES:
            for shared in SHARED:
                by_rule = (
                    pass_rates(rule, (seeds, cells), reliability, shared, studies)
                    for rule in (passes, passes_before)
                )
                new, before = (" / ".join(f"{x:.2f}" for x in rates) for rates in by_rule)
                yield {
                    "cells x seeds": f"{cells} x {seeds}",
                    "trainings": f"{cells * seeds * COST:.3g}",
                    "reliability": f"{reliability:g}",
                    "shared": f"{shared:.0%}",
                    f"passes: {' / '.join(RUNGS)}": new,
                    "before": before,
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=400, help="simulate this many pilots each")
    options = parser.parse_args()
    print_rows(list(rows(DESIGNS, options.studies)))


if __name__ == "__main__":
    main()
