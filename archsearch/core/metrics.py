"""Metrics of cells and trials: one table of names, labels, units and directions.

Every plot and table takes its label, unit and precision from here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from archsearch.core.cost import Cost

PARTS = ("start", "steps", "calibration", "validation", "checkpoints", "test", "earlier")
"""The parts of a training's time: ``steps_seconds`` and so on among the metrics of its record.
``earlier`` is the time of a training that began before the parts were measured."""

Source = Literal["metrics", "error", "budget", "trained", "record", "latency"]


class RecordLike(Protocol):
    """The attributes of `archsearch.study.Record` that a metric reads."""

    @property
    def status(self) -> str: ...
    @property
    def metrics(self) -> Mapping[str, float | int | None]: ...
    @property
    def cost(self) -> Cost | None: ...


@dataclass(frozen=True)
class Metric:
    """One number of a cell or of a trial.

    ``source`` says where the number comes from: ``metrics``, the record's metrics; ``error``, 100
    minus one of them; ``budget``, the cell's cost in the paper's counting (1000 classes at
    224 x 224); ``trained``, the cost of the trained model; ``record``, the record itself;
    ``latency``, among the metrics, measured or predicted. ``field`` is its name in that source. A
    stored number is divided by ``scale`` to get ``unit``. ``digits`` is the largest number of
    decimals to print.
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
        """Label and unit, for axes and column headers."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def known_before_training(self) -> bool:
        """Whether it is counted before any training, so that it does not depend on the seed."""
        return self.source in ("budget", "trained", "latency")

    @property
    def noun(self) -> str:
        """The label inside a sentence: ``validation mIoU``."""
        return self.label[:1].lower() + self.label[1:]

    @property
    def is_of_test_split(self) -> bool:
        """Whether it is measured on the test split, by which nothing may be chosen."""
        return self.source in ("metrics", "error") and self.field.startswith("test_")

    def value_of(self, record: RecordLike | None) -> float | None:
        """Return the value of a completed trial, in ``unit``.

        None if it was not measured, and for ``budget``, which is a property of the cell.
        """
        if record is None or record.status != "complete":
            return None
        if self.source == "record":
            return self._finite(getattr(record, self.field))
        if self.source == "trained":
            return self._finite(getattr(record.cost, self.field, None))
        if self.source == "latency":
            return self._finite(record.metrics.get(self.field))
        return self.value_in(record.metrics)

    def value_in(self, metrics: Mapping[str, Any]) -> float | None:
        """Return the value from the metrics of a record or of an epoch; None if it is missing."""
        if self.source not in ("metrics", "error"):
            return None
        value = self._finite(metrics.get(self.field))
        return 100.0 - value if value is not None and self.source == "error" else value

    def _finite(self, raw: float | None) -> float | None:
        return None if raw is None or not math.isfinite(raw) else raw / self.scale

    def merit(self, value: float) -> float:
        """Return the value, negated if lower is better, so that a larger merit is always better."""
        return value if self.higher_is_better else -value

    def text(self, value: float | None, digits: int | None = None) -> str:
        """Return the number as text without its unit; a dash for None."""
        return "–" if value is None else fixed(value, self.digits if digits is None else digits)


def fixed(value: float, digits: int, sign: str = "") -> str:
    """Return the value with that many decimals, with ``sign="+"`` also the sign of positive ones.

    The value is rounded to nine decimals first: means of accuracies often lie half-way between two
    texts (-0.035), where rounding errors of sums, which differ by processor, would decide.
    """
    return f"{round(value, 9):{sign}.{digits}f}"


def rounded(value: float | None) -> float | None:
    """Round the value to six decimals for tables and JSON; None stays None.

    Digits beyond the sixth decimal only show rounding errors of sums.
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
    Metric("latency", "Latency", "ms", False, "latency", "latency_seconds", 1e-3),
)

GENERAL: dict[str, Metric] = {metric.name: metric for metric in _GENERAL}
"""The metrics of every task."""
