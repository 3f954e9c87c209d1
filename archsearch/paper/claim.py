"""One figure that the paper prints, beside our count of it."""

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["equal", "by another reading", "not recovered"]

UNITS = {"K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "%": 0.01, "": 1.0}


@dataclass(frozen=True)
class Claim:
    """One printed figure and our count of it.

    ``computed`` is exact and not in percent (0.661 for 66.1%). ``found`` is the value by another
    reading, which the paper does not state; ``tried`` describes the readings that were tried. A
    claim that must be equal as the paper describes it has neither.
    """

    source: str
    model: str
    quantity: str
    printed: str
    computed: float
    convention: str
    found: float | None = None
    tried: str = ""

    @property
    def ours(self) -> str:
        """The computed figure, rounded like the printed one."""
        return as_printed(self.computed, self.printed)

    @property
    def verdict(self) -> Verdict:
        if self.ours == self.printed:
            return "equal"
        if self.found is not None and as_printed(self.found, self.printed) == self.printed:
            return "by another reading"
        return "not recovered"

    @property
    def broken(self) -> bool:
        """Whether the claim must be equal and is not: an error of ours, not the paper's."""
        return self.verdict == "not recovered" and not self.tried

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ours": self.ours, "verdict": self.verdict, "broken": self.broken}


def as_printed(value: float, printed: str) -> str:
    """``value`` with the unit and decimals of ``printed`` (``1.08B``, ``206G``, ``42.0%``).

    Raises:
        ValueError: ``printed`` does not have this form.
    """
    match = re.fullmatch(r"\d+(?:\.(\d+))?([KMGB%]?)", printed)
    if match is None:
        raise ValueError(f"wanted a figure such as 1.08B, 206G or 42.0%, got {printed!r}")
    return f"{value / UNITS[match[2]]:.{len(match[1] or '')}f}{match[2]}"
