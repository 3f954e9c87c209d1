"""What is known of the latencies of a run: measured ones, and predictions by a model of some."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from archsearch.core.family import Family
from archsearch.latency.model import LatencyModel, Row, features, growth, predicted_from_others


@dataclass(frozen=True)
class Latencies:
    """``measured`` seconds by network, of which ``fitted`` are those of the model.

    A network is predicted for one image of ``image_size`` pixels and for ``num_classes``.
    """

    image_size: int
    num_classes: int
    measured: Mapping[Family, float] = field(default_factory=dict)
    fitted: tuple[Family, ...] = ()
    _rows: dict[Family, Row] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def model(self) -> LatencyModel:
        """The model of the ``fitted`` networks; at least one is needed."""
        return LatencyModel.fit(*self._data)

    @cached_property
    def left_out(self) -> Mapping[Family, float]:
        """The latency of each fitted network by a model of the others."""
        return dict(zip(self.fitted, predicted_from_others(*self._data), strict=True))

    def predicted(self, variant: Family) -> float:
        """Return the predicted seconds of a network; raises as `features`."""
        return self.model.seconds(self.row(variant))

    def predicted_size(self, start: Family, size: int) -> float:
        """Return the predicted seconds of a network with another solved number than ``start``."""
        line = growth(start, self.image_size, self.num_classes)
        if line is None:
            return self.predicted(start.with_solved(size))
        steps = size - start.solved_value
        return self.model.seconds(tuple(a + steps * b for a, b in zip(*line, strict=True)))

    def row(self, variant: Family) -> Row:
        """Return the features of a network; raises as `features`."""
        if variant not in self._rows:
            self._rows[variant] = features(variant, self.image_size, self.num_classes)
        return self._rows[variant]

    def range(self, variant: Family) -> tuple[float, float]:
        """Return the interval of a prediction, in seconds."""
        seconds, half = self.predicted(variant), self.model.half_width
        return max(0.0, seconds * (1 - half)), seconds * (1 + half)

    @cached_property
    def _data(self) -> tuple[list[Row], list[float]]:
        return [self.row(v) for v in self.fitted], [self.measured[v] for v in self.fitted]
