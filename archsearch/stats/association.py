"""Does a result go with any of the numbers at all, or is what is seen within chance?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def chance_of_no_association(
    columns: Mapping[str, Sequence[Any]], values: Sequence[float], draws: int = 1999
) -> float:
    """The p-value of "these values have nothing to do with any of the columns", by permutation.

    The statistic is the largest F over the columns: of a parabola through a column of numbers (a
    best depth lies in the middle), of a mean per category otherwise. Taking the largest within
    every permutation pays for having looked at several columns. Give one value per network: seeds
    of one network are no independent evidence about its numbers. 1.0 where nothing can be tested.

    Raises:
        ValueError: a column has another length than the values.
    """
    y = np.asarray(values, dtype=float)
    if wrong := [name for name, column in columns.items() if len(column) != len(y)]:
        raise ValueError(f"{len(y)} values wanted in every column, other numbers in {wrong}")
    y = y - y.mean()
    bases = [b for c in columns.values() if 0 < (b := _basis(c)).shape[1] < len(y) - 1]
    if not bases or not y.any():
        return 1.0
    rng = np.random.default_rng(0)
    shuffled = rng.permuted(np.tile(y, (draws, 1)), axis=1)
    seen, chance = (max_f(bases, rows) for rows in (y[None], shuffled))
    return float((1 + (chance >= seen[0] - 1e-12).sum()) / (draws + 1))


def max_f(bases: Sequence[Array], rows: Array) -> Array:
    """(R, N) centred values -> (R,): the largest F over the columns."""
    total = (rows**2).sum(1)
    found = []
    for basis in bases:
        k, explained = basis.shape[1], ((rows @ basis) ** 2).sum(1)
        left = np.maximum(total - explained, 1e-12 * total)
        found.append(explained / k / (left / (len(basis) - 1 - k)))
    return np.asarray(np.max(found, axis=0))


def _basis(column: Sequence[Any]) -> Array:
    """Orthonormal columns (N, k) that span what a column can explain, the mean taken out."""
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in column):
        x = np.asarray(column, dtype=float)
        x = (x - x.mean()) / (x.std() or 1.0)
        design = np.stack([x, x**2], axis=1)
    else:
        levels = sorted({str(v) for v in column})
        design = np.array([[str(v) == level for level in levels] for v in column], dtype=float)
    u, sizes, _ = np.linalg.svd(design - design.mean(0), full_matrices=False)
    return np.asarray(u[:, sizes > 1e-9 * max(1.0, sizes.max(initial=0.0))])
