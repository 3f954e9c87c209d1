"""What a cell can be judged by: one table of names, labels, units and directions.

Every plot and table takes its label, unit and precision from here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from archsearch.core.cost import Cost

Source = Literal["metrics", "error", "budget", "trained", "record"]


class Measured(Protocol):
    """What a metric reads of `archsearch.study.Record`."""

    @property
    def status(self) -> str: ...
    @property
    def metrics(self) -> Mapping[str, float | int | None]: ...
    @property
    def cost(self) -> Cost | None: ...


@dataclass(frozen=True)
class Metric:
    """One number of a cell or of a training.

    ``source`` says where it is read: ``metrics`` from the record's metrics, ``error`` as 100 minus
    one of them, ``budget`` from the cell's cost as the paper counts (1000 classes at 224 x 224),
    ``trained`` from the cost of the trained model, ``record`` from the record itself. ``field`` is
    the name there, ``scale`` what a stored number is divided by to have ``unit``, ``digits`` the
    decimals that are printed at most.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    source: Source
    field: str
    scale: float = 1.0
    digits: int = 2

    @property
    def axis(self) -> str:
        """Label with its unit, as axes and columns print it."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def counted(self) -> bool:
        """Whether it is known before any training, so that seeds do not change it."""
        return self.source in ("budget", "trained")

    def of(self, record: Measured | None) -> float | None:
        """What a finished training gave, in ``unit``; None where it was not measured, and for what
        is known of a cell before any training (``budget``).
        """
        if record is None or record.status != "complete":
            return None
        if self.source == "record":
            return self._finite(getattr(record, self.field))
        if self.source == "trained":
            return self._finite(getattr(record.cost, self.field, None))
        return self.of_metrics(record.metrics)

    def of_metrics(self, metrics: Mapping[str, Any]) -> float | None:
        """The same from a record's metrics or an epoch's alone; None for what is not among them."""
        if self.source not in ("metrics", "error"):
            return None
        value = self._finite(metrics.get(self.field))
        return 100.0 - value if value is not None and self.source == "error" else value

    def _finite(self, raw: float | None) -> float | None:
        return None if raw is None or not math.isfinite(raw) else raw / self.scale

    def merit(self, value: float) -> float:
        """The value with the sign that makes more of it better."""
        return value if self.higher_is_better else -value

    def text(self, value: float | None, digits: int | None = None) -> str:
        """The number as printed, without its unit; a dash for a missing one."""
        return "–" if value is None else f"{value:.{self.digits if digits is None else digits}f}"


def rounded(value: float | None) -> float | None:
    """Six decimals, as tables and JSON keep a number: below them stands only the rounding of sums.

    None stays None.
    """
    return None if value is None else round(value, 6)


_GENERAL = (
    Metric("train_loss", "Training loss", "", False, "metrics", "train_loss", digits=3),
    Metric("throughput", "Throughput", "images/s", True, "metrics", "images_per_second", digits=1),
    Metric("memory", "Peak memory", "GB", False, "metrics", "peak_memory_bytes", 1e9),
    Metric("params", "Parameters", "M", False, "budget", "params", 1e6),
    Metric("macs", "Multiply-adds", "G", False, "budget", "macs", 1e9),
    Metric("activations", "Activations", "M", False, "budget", "activations", 1e6),
    Metric("trained_params", "Parameters as trained", "M", False, "trained", "params", 1e6),
    Metric("trained_macs", "Multiply-adds as trained", "G", False, "trained", "macs", 1e9, 3),
    Metric("seconds", "Training time", "s", False, "record", "seconds", digits=1),
)

GENERAL: dict[str, Metric] = {metric.name: metric for metric in _GENERAL}
"""The metrics of every task."""
