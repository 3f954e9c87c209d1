"""The number of the winner: as an accuracy on new images, and with the bias of having been chosen.

The winner has the highest of many means, so its mean is too high on average. The test split took no
part in the choice: its mean has no such bias.
"""

from dataclasses import dataclass
from typing import Any

from archsearch.core.metrics import Metric, rounded
from archsearch.reports.cell_order import reported_interval
from archsearch.reports.columns import interval_fields
from archsearch.reports.context import Context
from archsearch.reports.phrases import difference_with_unit, interval_with_unit, paragraph
from archsearch.results import LEVEL, CellResult
from archsearch.stats.intervals import Interval
from archsearch.stats.moderated import on_new_images
from archsearch.tasks.annotated import OnMaps


@dataclass(frozen=True, kw_only=True)
class Winner:
    """The means of the best network, by the report's metric and on the test split.

    The intervals hold for new images, if the metric is a share of images. ``selection_bias`` is how
    much better the mean is expected to be than the truth, None without a ranking.
    """

    cell: CellResult
    metric: Metric
    value: Interval | None
    digits: int
    num_networks: int
    selection_bias: float | None
    test_metric: Metric | None
    test_value: Interval | None

    @classmethod
    def of(cls, context: Context, label: str) -> "Winner":
        """Return the winner of a run by its label."""
        cell, comparison = context.results.network(label), context.comparison
        test = metric_on_test(context)
        of_test = None if test is None else context.results.estimate(cell, test)
        return cls(
            cell=cell,
            metric=context.metric,
            value=_on_new_images(context, context.metric, reported_interval(cell, comparison)),
            digits=comparison.digits,
            num_networks=len(comparison.ranking.means),
            selection_bias=comparison.selection_bias,
            test_metric=test,
            test_value=None if test is None else _on_new_images(context, test, of_test),
        )

    @property
    def value_text(self) -> str:
        """The mean with unit and interval."""
        return interval_with_unit(self.metric, self.value, self.digits)

    @property
    def test_text(self) -> str:
        """The mean on the test split with unit and interval; empty without one."""
        if self.test_metric is None or self.test_value is None:
            return ""
        digits = 1 if self.test_metric.unit == "%" else self.test_metric.digits
        return interval_with_unit(self.test_metric, self.test_value, digits)

    @property
    def bias_text(self) -> str:
        """How far the mean is expected to be too good, and the mean on the test split."""
        if self.selection_bias is None:
            return ""
        size = difference_with_unit(self.metric, self.selection_bias, self.digits)
        direction = "high" if self.metric.higher_is_better else "low"
        bias = (
            f"As the best of {self.num_networks}, its mean is expected to be {size} too "
            f"{direction}."
        )
        if not self.test_text:
            return bias
        return paragraph(
            bias, f"On the test split, which took no part in the choice, it has {self.test_text}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, six decimals."""
        return {
            "network": self.cell.label,
            "metric": self.metric.name,
            **interval_fields("value", self.value),
            "selection_bias": rounded(self.selection_bias),
            "test_metric": self.test_metric and self.test_metric.name,
            **interval_fields("test", self.test_value),
        }


def num_images(context: Context, metric: Metric) -> int:
    """Return how many images a share of images is measured on; 0 for other metrics.

    Average precision and mIoU are in percent too, but are no shares of images.
    """
    if isinstance(context.results.study.task, OnMaps):
        return 0
    data, split = context.results.data, metric.name.partition("_")[0]
    images = {"val": data.num_val, "test": data.num_test}
    return images.get(split, 0) if metric.unit == "%" else 0


def _on_new_images(context: Context, metric: Metric, value: Interval | None) -> Interval | None:
    number = num_images(context, metric)
    return on_new_images(value, number, LEVEL) if value and number else value


def metric_on_test(context: Context) -> Metric | None:
    """Return the report's metric on the test split, else the one that ranks; None if equal."""
    task, metric = context.results.study.task, context.metric
    name = metric.name if metric.name.startswith("val_") else task.ranking_metric
    test = task.metric(name.replace("val_", "test_"))
    return None if test == metric else test
