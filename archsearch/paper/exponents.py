"""The exponent of ``alpha * beta^1.99 ~ 2`` (Section 3.2) for any network, by all that it may mean.

The paper doubles the width at constant depth and does not say what it counts: parameters or
multiply-adds, with the last Linear and the operator's samples or without.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archsearch.families.internimage import ORIGIN, Variant
from archsearch.families.internimage_scaling import exponent
from archsearch.paper.table_c import ROWS

PAPER = 1.99

COUNTED: dict[str, dict[str, Any]] = {
    "params": {"axis": "params"},
    "params without the classifier": {"axis": "params", "classifier": False},
    "macs": {"axis": "macs"},
    "macs without the classifier": {"axis": "macs", "classifier": False},
    "macs without the operator's samples": {"axis": "macs", "operator": False},
}
"""What may be counted -> how `internimage_scaling.exponent` is called for it."""


@dataclass(frozen=True)
class Measured:
    """One way to count and its exponent.

    ``steps`` holds, for the five (alpha, beta) of Table C, what one step of phi multiplies that
    count by: ``alpha * beta^exponent``, meant to be 2.
    """

    counted: str
    exponent: float
    steps: Mapping[tuple[float, float], float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, six decimals."""
        steps = [{"alpha": a, "beta": b, "step": round(s, 6)} for (a, b), s in self.steps.items()]
        return {"counted": self.counted, "exponent": round(self.exponent, 6), "steps": steps}


def exponents(origin: Variant = ORIGIN) -> tuple[Measured, ...]:
    """Every way of `COUNTED` for one origin (1000 classes, 224 x 224), then the paper's 1.99."""
    found = {counted: exponent(origin, **asked) for counted, asked in COUNTED.items()}
    return tuple(_measured(name, value) for name, value in {**found, "as printed": PAPER}.items())


def _measured(counted: str, value: float) -> Measured:
    return Measured(counted, value, {(r.alpha, r.beta): r.alpha * r.beta**value for r in ROWS})
