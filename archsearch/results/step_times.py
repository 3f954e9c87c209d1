"""Measured times of networks: repeats in turn, one network at a time."""

from dataclasses import dataclass

import numpy as np

from archsearch.core.family import Family
from archsearch.results.run_results import Results


@dataclass(frozen=True)
class StepTime:
    """The repeated times of a network in seconds per image: of a training step, or its latency."""

    repeats: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.repeats))

    @property
    def spread(self) -> float:
        """The distance of the quartiles, as a fraction of the median."""
        low, high = np.quantile(self.repeats, (0.25, 0.75))
        return float(high - low) / self.median


def step_times(results: Results, name: str = "seconds_per_image") -> dict[Family, StepTime]:
    """Return the times of the networks that have all of their repeats, by the metric ``name``.

    Raises:
        ValueError: a network could not be timed.
    """
    times, problems = dict[Family, StepTime](), []
    for cell in results.cells:
        records = [t.record for t in cell.trials if t.record is not None]
        problems += [f"{cell.label}: {r.error.partition(chr(10))[0]}" for r in records if r.error]
        repeats = [s for r in records if (s := r.metrics.get(name)) is not None]
        if cell.cell.variant is not None and len(repeats) == len(results.study.seeds):
            times[cell.cell.variant] = StepTime(tuple(map(float, repeats)))
    if problems:
        raise ValueError(f"networks could not be timed: {'; '.join(dict.fromkeys(problems))}")
    return times
