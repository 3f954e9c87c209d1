"""The exponent of ``alpha * beta^1.99 ~ 2`` (Section 3.2) for any network, counted in five ways.

The paper doubles the width at constant depth, but does not say what it counts: parameters or
multiply-adds, with or without the last Linear and the operator's samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archsearch.families.internimage import ORIGIN, Variant
from archsearch.families.internimage_scaling import exponent
from archsearch.paper.table_c import ROWS

PRINTED = 1.99

COUNTED: dict[str, dict[str, Any]] = {
    "params": {"axis": "params"},
    "params without the classifier": {"axis": "params", "classifier": False},
    "macs": {"axis": "macs"},
    "macs without the classifier": {"axis": "macs", "classifier": False},
    "macs without the operator's samples": {"axis": "macs", "operator": False},
}
"""What is counted -> the arguments of `internimage_scaling.exponent` that count it."""


@dataclass(frozen=True)
class MeasuredExponent:
    """The exponent of one way to count.

    ``steps`` holds the growth factor of one step of phi, ``alpha * beta^exponent``, for the five
    (alpha, beta) of Table C; by the paper's rule it is 2.
    """

    counted: str
    exponent: float
    steps: Mapping[tuple[float, float], float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, six decimals."""
        steps = [{"alpha": a, "beta": b, "step": round(s, 6)} for (a, b), s in self.steps.items()]
        return {"counted": self.counted, "exponent": round(self.exponent, 6), "steps": steps}


def exponents(origin: Variant = ORIGIN) -> tuple[MeasuredExponent, ...]:
    """The exponents of `COUNTED` for one origin (1000 classes, 224 x 224), and the printed 1.99."""
    values = {counted: exponent(origin, **options) for counted, options in COUNTED.items()}
    return tuple(_with_steps(c, value) for c, value in {**values, "as printed": PRINTED}.items())


def _with_steps(counted: str, value: float) -> MeasuredExponent:
    steps = {(row.alpha, row.beta): row.alpha * row.beta**value for row in ROWS}
    return MeasuredExponent(counted, value, steps)
