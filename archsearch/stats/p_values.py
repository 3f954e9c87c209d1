"""P-values of t and F tests, and Holm's adjustment of several."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def t_tails(estimate: float, error: float | None, degrees_of_freedom: float) -> float:
    """Return Student's two-sided p-value; 1 without an error, 0 if an estimate has no noise."""
    from scipy.special import stdtr

    if not error:
        return 1.0 if error is None or not estimate else 0.0
    return 2 * float(stdtr(degrees_of_freedom, -abs(estimate / error)))


def f_tail(square: float, noise: float, degrees_of_freedom: int, of_noise: int) -> float:
    """Return the p-value of a mean square beside the noise's, with the degrees of freedom of both.

    It is 1 without degrees of freedom, and 0 if a mean square has no noise.
    """
    from scipy.special import fdtrc

    if not (square and degrees_of_freedom):
        return 1.0
    return float(fdtrc(degrees_of_freedom, of_noise, square / noise)) if noise else 0.0


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Return Holm's adjusted p-values: the smallest times the number of tests, and so on."""
    adjusted: dict[Key, float] = {}
    largest = 0.0
    for i, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        largest = max(largest, min(1.0, p_values[key] * (len(p_values) - i)))
        adjusted[key] = largest
    return {key: adjusted[key] for key in p_values}
