"""Coverage of scaling laws with and without a floor.

Run ``python -m archsearch.benchmarks.scaling_law``. Ladders that double in size are simulated,
error = floor + b size^-0.3, from 50% at the smallest size; the deviations of sizes from their law
are normal in log(error). Coverage is the share of ladders whose 95% interval contains the true
exponent, or the measured error of a size that is 2, 4 or 8 times the largest trained one.
"Straight" is the law without floor, "floor" the law with one, which needs five sizes. Reports
predict with a floor from five sizes on, and show floor and exponent if the data identify them
("shown", `FloorLaw.is_identified`); "floor exponent" is over the ladders where they do. Takes a
minute.
"""

import argparse
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from archsearch.cli.output import print_rows
from archsearch.stats.floor import fit_with_floor
from archsearch.stats.intervals import Interval
from archsearch.stats.law import fit, predict

EXPONENT = 0.3
FACTORS = (2, 4, 8)
Intervals = dict[str, Interval]
Array = NDArray[np.float64]


def true_errors(floor: float, sizes: Array) -> Array:
    """The errors in percent without deviations, from 50% at size 1."""
    return np.asarray(floor + (50.0 - floor) * sizes**-EXPONENT)


def intervals_of_a_ladder(errors: Array, sizes: Array, trained: int) -> Intervals:
    """The intervals of the straight law and of the law with a floor, by name."""
    points = {s: [e] for s, e in zip(sizes[:trained].tolist(), errors.tolist(), strict=False)}
    law, floor = fit(points), fit_with_floor(points)
    intervals = {"straight exponent": law.exponent}
    if floor is not None and floor.is_identified:
        intervals["floor exponent"] = floor.exponent
    for factor in FACTORS:
        size = factor * max(points)
        intervals[f"straight x{factor}"] = predict(law, size, math.inf).error
        if floor is not None:
            intervals[f"floor x{factor}"] = floor.predict(size).error
    return intervals


def hits_of_ladders(
    floor: float, trained: int, deviation: float, studies: int
) -> Iterator[dict[str, bool]]:
    """Whether each interval of a simulated ladder contains the truth."""
    rng, sizes = np.random.default_rng(7), np.asarray(2.0 ** np.arange(trained + len(FACTORS)))
    for _ in range(studies):
        errors = true_errors(floor, sizes) * np.exp(rng.normal(0, deviation, len(sizes)))
        truth = {f"x{factor}": float(errors[trained + i]) for i, factor in enumerate(FACTORS)}
        truth["exponent"] = EXPONENT
        intervals = intervals_of_a_ladder(errors, sizes, trained)
        yield {name: truth[name.split()[1]] in one for name, one in intervals.items()}


def row(floor: float, trained: int, deviation: float, studies: int) -> dict[str, object]:
    """Coverage of one case; a dash where no ladder has the interval."""
    hits = list(hits_of_ladders(floor, trained, deviation, studies))
    values: dict[str, object] = {"floor": floor, "sizes": trained, "deviation": deviation}
    shown = np.mean(["floor exponent" in one for one in hits])
    for kind in ("straight", "floor"):
        for name in ("exponent", "x2", "x4", "x8"):
            of_case = [one[f"{kind} {name}"] for one in hits if f"{kind} {name}" in one]
            values[f"{kind} {name}"] = f"{np.mean(of_case):.2f}" if of_case else ""
    return {**values, "shown": f"{shown:.2f}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    cases = [(f, n, d) for f in (0.0, 15.0) for n in (3, 4, 5, 6, 8) for d in (0.01, 0.02)]
    print_rows([row(*case, studies) for case in cases])


if __name__ == "__main__":
    main()
