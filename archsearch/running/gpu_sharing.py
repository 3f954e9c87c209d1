"""How many trainings share a GPU. On small images a step launches thousands of operations for under
a millisecond of arithmetic, so one training leaves most of a GPU idle.
"""

from collections.abc import Iterable

from archsearch.running.estimate import STEP_PASSES, Estimate, cost_of
from archsearch.study import Trial

MAX_PER_GPU = 4

MACS_PER_SECOND = 1e13
"""Slower than a GPU for training computes (an A100 has 7.8e13 in TF32): it counts a GPU as busier
than it is, so that sharing begins late."""

CONTEXT_BYTES = 1 << 30
HEADROOM = 1.25
"""Memory of a process on a GPU beside its tensors, and of tensors beside the estimated peak. Both
are assumptions: they have not been measured on a GPU."""


def trainings_per_gpu(
    estimate: Estimate, trials: Iterable[Trial], free_bytes: int, num_cores: int
) -> int:
    """How many of the estimated trials one GPU trains at a time: 1 to `MAX_PER_GPU`.

    As many as its ``free_bytes`` of memory hold, the ``num_cores`` that it has to itself can serve,
    and its arithmetic leaves idle time for. 1 if the estimate has no memory.
    """
    if estimate.peak_bytes is None:
        return 1
    seconds = sum(estimate.seconds.values())
    busy = sum(_arithmetic_seconds(trial) for trial in trials if trial.id in estimate.seconds)
    fitting = free_bytes // (estimate.peak_bytes * HEADROOM + CONTEXT_BYTES)
    return max(1, int(min(MAX_PER_GPU, fitting, num_cores, seconds / busy)))


def _arithmetic_seconds(trial: Trial) -> float:
    """Seconds of a trial's training steps at `MACS_PER_SECOND`."""
    recipe = trial.recipe
    images = recipe.epochs * trial.data.num_train * recipe.data_fraction
    return STEP_PASSES * cost_of(trial).macs * images / MACS_PER_SECOND
