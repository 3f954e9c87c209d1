"""A permutation test of whether a result is associated with any of a network's numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CHUNK_VALUES = 1_000_000
"""Permuted values that are in memory at a time, 8 MB."""


def association_p_value(
    columns: Mapping[str, Sequence[Any]], values: Sequence[float], draws: int = 1999
) -> float:
    """Return the permutation p-value of "the values are not associated with any of the columns".

    The statistic is the largest F over the columns: of a parabola for a column of numbers (the best
    depth may be in the middle), of a mean per category otherwise. Taking the largest F in every
    permutation corrects for testing several columns. Give one value per network: seeds of one
    network are not independent evidence about its numbers. Returns 1.0 if nothing can be tested.

    Raises:
        ValueError: a column and the values differ in length.
    """
    y = np.asarray(values, dtype=float)
    if wrong := [name for name, column in columns.items() if len(column) != len(y)]:
        raise ValueError(f"every column must have {len(y)} values, as the results; wrong: {wrong}")
    y = y - y.mean()
    bases = [b for c in columns.values() if 0 < (b := _basis(c)).shape[1] < len(y) - 1]
    if not bases or not y.any():
        return 1.0
    rng, observed = np.random.default_rng(0), max_f(bases, y[None])[0]
    step, num_greater = max(1, CHUNK_VALUES // len(y)), 0
    for start in range(0, draws, step):
        rows = rng.permuted(np.tile(y, (min(step, draws - start), 1)), axis=1)
        num_greater += int((max_f(bases, rows) >= observed - 1e-12).sum())
    return (1 + num_greater) / (draws + 1)


def max_f(bases: Sequence[Array], rows: Array) -> Array:
    """Return the largest F over the columns: (R, N) centered values -> (R,)."""
    total = (rows**2).sum(1)
    f_values = []
    for basis in bases:
        k, explained = basis.shape[1], ((rows @ basis) ** 2).sum(1)
        residual = np.maximum(total - explained, 1e-12 * total)
        f_values.append(explained / k / (residual / (len(basis) - 1 - k)))
    return np.asarray(np.max(f_values, axis=0))


def _basis(column: Sequence[Any]) -> Array:
    """Return an (N, k) orthonormal basis of what a column can explain, without the mean."""
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in column):
        x = np.asarray(column, dtype=float)
        x = (x - x.mean()) / (x.std() or 1.0)
        design = np.stack([x, x**2], axis=1)
    else:
        levels = sorted({str(v) for v in column})
        design = np.array([[str(v) == level for level in levels] for v in column], dtype=float)
    u, sizes, _ = np.linalg.svd(design - design.mean(0), full_matrices=False)
    return np.asarray(u[:, sizes > 1e-9 * max(1.0, sizes.max(initial=0.0))])
