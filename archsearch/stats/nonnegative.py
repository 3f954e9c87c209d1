"""Rates of a sum with parts that only add: non-negative least squares on relative errors."""

from collections.abc import Sequence


def nonnegative_rates(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Return a rate >= 0 per column, so that ``rows @ rates`` is close to ``values`` (all > 0).

    Errors are relative to the values, and columns are scaled to one, so units do not matter.
    """
    import numpy as np
    from scipy.optimize import nnls

    matrix, target = np.array(rows, dtype=float), np.array(values, dtype=float)
    scale = np.maximum(matrix.max(axis=0), 1e-30)
    rates, _ = nnls(matrix / scale / target[:, None], np.ones(len(target)))
    return [float(rate) for rate in rates / scale]


def weighted_sum(rates: Sequence[float], row: Sequence[float]) -> float:
    """Return the sum of the products of rates and numbers."""
    return sum(rate * number for rate, number in zip(rates, row, strict=True))
