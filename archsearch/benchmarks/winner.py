"""Intervals of cells and the winner's selection bias: ``python -m archsearch.benchmarks.winner``.

Studies of 20 networks with known true accuracies are simulated. Coverage is the share of studies
whose 95% interval includes the truth, of a given cell (``cell``) and of the one with the highest
mean (``winner``), with the median half-width: from a cell's own seeds, moderated as in reports, and
on new images, where every study also draws its 3,000 images. The bias is that of the winner's
mean: true, estimated by parametric simulation, and by resampled residuals. In deviations of the
noise, except for images (percentage points). Takes about a minute.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsearch.cli.output import print_rows
from archsearch.stats.intervals import Interval, interval
from archsearch.stats.moderated import moderated_intervals, on_new_images
from archsearch.stats.winner import resampled_bias, selection_bias

Array = NDArray[np.float64]
CELLS, IMAGES = 20, 3000

TRUTHS: dict[str, Array] = {
    "all equal": np.zeros(CELLS),
    "steps of 0.1": np.arange(CELLS) / 10,
    "steps of 0.5": np.arange(CELLS) / 2,
}
"""The true means of the cells, the best last."""

NoiseDraw = Callable[[np.random.Generator, int], Array]
NOISES: dict[str, NoiseDraw] = {
    "equal noise": lambda rng, n: rng.normal(size=(CELLS, n)),
    "seeds shift all cells": lambda rng, n: rng.normal(size=(CELLS, n)) + rng.normal(size=n) / 2,
    "last cell 3x as noisy": lambda rng, n: (
        rng.normal(size=(CELLS, n)) * np.where(np.arange(CELLS) == CELLS - 1, 3, 1)[:, None]
    ),
    "unequal (lognormal 0.5)": lambda rng, n: (
        rng.normal(size=(CELLS, n)) * np.exp(rng.normal(0, 0.5, (CELLS, 1)))
    ),
    "heavy tails (t3)": lambda rng, n: rng.standard_t(3, (CELLS, n)) / math.sqrt(3),
}


def table(values: Array) -> dict[int, dict[int, float]]:
    """Return values (cells, seeds) as the ranking takes them."""
    return {i: dict(enumerate(row)) for i, row in enumerate(values.tolist())}


def of_accuracies(rng: np.random.Generator, num_seeds: int) -> tuple[Array, Array]:
    """Return measured accuracies (cells, seeds) in percent, and the true ones (cells,).

    A network with deviation 1 point is right on an image with a chance that is the image's own and
    shifted by the training; all networks and seeds are measured on the same images.
    """
    truth = 45 + np.arange(CELLS) / 10
    difficulty = rng.normal(size=IMAGES)
    shift = rng.normal(size=(CELLS, num_seeds)) / 100
    chance = np.clip(truth[:, None, None] / 100 + shift[..., None] + 0.3 * difficulty, 0, 1)
    expected = np.clip(truth[:, None] / 100 + 0.3 * rng.normal(size=(1, 200_000)), 0, 1).mean(1)
    return 100 * (rng.random(chance.shape) < chance).mean(2), 100 * expected


def coverage(intervals: list[list[Interval]], truths: list[Array], winner: bool) -> str:
    """Return the coverage of the last cell or of the winner, and the median half-width."""
    picked = [
        (row[i], truth[i])
        for row, truth in zip(intervals, truths, strict=True)
        for i in [int(np.argmax([x.mean for x in row])) if winner else CELLS - 1]
    ]
    share = np.mean([truth in of_cell for of_cell, truth in picked])
    return f"{share:.3f} ± {np.median([x.half_width or 0.0 for x, _ in picked]):.2f}"


def moderated(values: Array) -> list[Interval]:
    """Return the intervals of the reports."""
    return list(moderated_intervals(dict(enumerate(values.tolist()))).values())


def rows_of_intervals(seeds: list[int], studies: int) -> Iterator[dict[str, Any]]:
    """Yield a row per number of seeds and noise; the truth rises by a tenth per cell."""
    for n in seeds:
        for name, noise in NOISES.items():
            rng = np.random.default_rng(3)
            truths = [TRUTHS["steps of 0.1"]] * studies
            data = [truths[0][:, None] + noise(rng, n) for _ in range(studies)]
            own = [[interval(row) for row in values.tolist()] for values in data]
            of_reports = [moderated(values) for values in data]
            yield _row(n, name, {"own seeds": own, "moderated": of_reports}, truths)


def rows_of_images(seeds: list[int], studies: int) -> Iterator[dict[str, Any]]:
    """Yield a row per number of seeds: intervals with and without the sampling of images."""
    for n in seeds:
        rng = np.random.default_rng(4)
        data, truths = zip(*(of_accuracies(rng, n) for _ in range(studies)), strict=True)
        seeds_only = [moderated(values) for values in data]
        new_images = [[on_new_images(x, IMAGES) for x in row] for row in seeds_only]
        intervals = {"seeds only": seeds_only, "with images": new_images}
        yield _row(n, "3,000 images drawn", intervals, list(truths))


def _row(
    n: int, case: str, rules: dict[str, list[list[Interval]]], truths: list[Array]
) -> dict[str, Any]:
    numbers = {
        f"{name}, {who}": coverage(intervals, truths, who == "winner")
        for name, intervals in rules.items()
        for who in ("cell", "winner")
    }
    return {"seeds": n, "case": case, **numbers}


def rows_of_bias(seeds: list[int], studies: int) -> Iterator[dict[str, Any]]:
    """Yield a row per number of seeds and truth."""
    for n in seeds:
        for name, truth in TRUTHS.items():
            rng, biases = np.random.default_rng(5), list[tuple[float, float, float]]()
            for _ in range(studies):
                values = truth[:, None] + rng.normal(size=(CELLS, n))
                best = values.mean(1).argmax()
                excess = float(values.mean(1)[best] - truth[best])
                biases.append(
                    (excess, selection_bias(table(values)), resampled_bias(table(values)))
                )
            true, parametric, resampled = (f"{x:.2f}" for x in np.mean(biases, axis=0))
            yield {"seeds": n, "truth": name, "true bias": true, "parametric": parametric,
                   "resampled": resampled}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 10])
    parser.add_argument("--studies", type=int, default=1000)
    options = parser.parse_args()
    print_rows(list(rows_of_intervals(options.seeds, options.studies)))
    print_rows(list(rows_of_images(options.seeds, options.studies // 10)))
    print_rows(list(rows_of_bias(options.seeds, options.studies // 5)))


if __name__ == "__main__":
    main()
