"""Estimate the cost of a study before it is trained, from the timed parts of its corner cells.

Seconds per image of a step are modeled as a sum with non-negative rates: per multiply-add and per
activation of the trained network (in closed form), and per block for the rest. Calibration and
validation are measured relative to a step, a checkpoint relative to the parameters. The study's own
runner times the corner cells, in parallel as they would train.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from archsearch.core.cost import Cost
from archsearch.stats.nonnegative import nonnegative_rates, weighted_sum
from archsearch.stats.remaining import makespan
from archsearch.study import Record, Trial

MAX_CORNERS = 4
STEP_PASSES = 3
"""A training step computes about three times the multiply-adds of a forward pass."""

EVAL_SHARE = 1 / STEP_PASSES
"""Time of a measured image relative to one of a training step, where no validation is timed."""

LAST_CHECKPOINT = 1 / 3
"""Size of the last checkpoint relative to others: it lacks the optimizer's two moments."""


@dataclass(frozen=True)
class Estimate:
    """The predicted cost of a study.

    ``seconds`` is each trial's time by its id, from its start to its record; ``start_seconds`` of
    it pass before the first step. ``setup_seconds`` is what each worker spends once, on its own
    start, imports and first data, ``report_seconds`` the drawing of the report. ``peak_bytes`` is
    the largest trial's, ``memory_bytes`` what one worker can use. ``too_large`` names networks that
    are not expected to fit beside the other workers, ``timed`` those that were timed.
    """

    seconds: Mapping[str, float]
    setup_seconds: float
    workers: int
    peak_bytes: int | None
    memory_bytes: int | None
    too_large: tuple[str, ...]
    timed: tuple[str, ...]
    start_seconds: float = 0.0
    report_seconds: float = 0.0

    @property
    def hours(self) -> float:
        """Hours until the report is drawn."""
        busy = makespan(self.seconds.values(), self.workers)
        return (self.setup_seconds + busy + self.report_seconds) / 3600

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "hours": self.hours}


def corners(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """The trials whose networks have the most or the least of multiply-adds, activations or
    blocks."""
    by_variant = {trial.variant: trial for trial in trials}
    candidates = list(by_variant.values())
    if len(candidates) <= MAX_CORNERS:
        return tuple(candidates)
    keys: tuple[Callable[[Trial], float], ...] = (
        lambda t: cost_of(t).macs,
        lambda t: cost_of(t).activations,
        lambda t: t.variant.num_blocks,
    )
    extremes = [end(candidates, key=key) for key in keys for end in (max, min)]
    return tuple(dict.fromkeys(extremes))[:MAX_CORNERS]


def estimate_cost(
    trials: Sequence[Trial],
    timings: Mapping[str, Record],
    workers: int,
    *,
    free_bytes: int | None = None,
    num_gpus: int = 1,
    worker_seconds: float | None = 0.0,
    report_seconds: float = 0.0,
) -> Estimate:
    """The cost of ``trials`` from the records of timed ones (`archsearch.running.timing`).

    ``free_bytes`` is the machine's free memory before the timings, which workers on a CPU share.
    On GPUs the workers share ``num_gpus`` evenly. ``worker_seconds`` is the start of a worker
    process, None for one that has started; ``report_seconds`` is the drawing of a report.

    Raises:
        ValueError: no timing succeeded; the message is the first error.
    """
    timed = [(t, timings[t.id]) for t in trials if t.id in timings and timings[t.id].cost]
    if not timed:
        errors = (r.error.partition("\n")[0] for r in timings.values() if r.error)
        raise ValueError(next(errors, "nothing was timed"))
    starts = [_value(r, "start_seconds") for _, r in timed]  # the first of a worker is the slowest
    parts, start = _Parts.of(timed), min(starts)
    seconds = {t.id: start + parts.seconds(t) for t in trials}
    peaks = _peaks(trials, timed)
    gpu = min((int(m) for _, r in timed if (m := r.metrics.get("memory_bytes"))), default=None)
    limit = _share(free_bytes, workers) if gpu is None else _share(gpu, -(-workers // num_gpus))
    too_large = {t.variant.name for t in trials if limit and peaks.get(t.id, 0) > limit}
    return Estimate(
        seconds=seconds,
        setup_seconds=0.0 if worker_seconds is None else worker_seconds + max(starts) - start,
        workers=workers,
        peak_bytes=round(max(peaks.values())) if peaks else None,
        memory_bytes=limit,
        too_large=tuple(sorted(too_large)),
        timed=tuple(t.variant.name for t, _ in timed),
        start_seconds=start,
        report_seconds=report_seconds,
    )


def estimated_and_actual(
    estimated: Mapping[str, float], records: Iterable[Record]
) -> tuple[float, float]:
    """(estimated, actual) seconds, summed over the completed trials that have an estimate.

    A trial that diverged or failed stopped early and would make the estimate seem too high.
    """
    complete = [r for r in records if r.status == "complete" and r.trial_id in estimated]
    return sum(estimated[r.trial_id] for r in complete), sum(r.seconds for r in complete)


def _share(memory: int | None, num_workers: int) -> int | None:
    return None if memory is None else memory // num_workers


def cost_of(trial: Trial) -> Cost:
    """Return the cost of a trial's network with its task, for one image of the recipe's size."""
    size = trial.recipe.image_size
    return trial.task.cost(trial.variant, trial.data, size, size)


def _features(trial: Trial) -> tuple[float, float, float]:
    cost = cost_of(trial)
    return float(cost.macs), float(cost.activations), float(trial.variant.num_blocks)


@dataclass(frozen=True)
class _Parts:
    """The measured rates: seconds per image of a step, a calibration in images of a step, the share
    of a measured image, and seconds of a checkpoint per parameter."""

    rates: Sequence[float]
    calibration_images: float
    eval_share: float
    save_rate: float

    @classmethod
    def of(cls, timed: Sequence[tuple[Trial, Record]]) -> "_Parts":
        steps = [_value(r, "seconds_per_image") for _, r in timed]
        evals = [r.metrics.get("val_seconds_per_image") for _, r in timed]
        shares = [e / step for e, step in zip(evals, steps, strict=True) if e is not None]
        calibrations = [_value(r, "calibration_seconds") for _, r in timed]
        saves = [_value(r, "checkpoint_seconds") / cost_of(t).params for t, r in timed]
        return cls(
            nonnegative_rates([_features(t) for t, _ in timed], steps),
            statistics.median(c / s for c, s in zip(calibrations, steps, strict=True)),
            statistics.median(shares) if shares else EVAL_SHARE,
            statistics.median(saves),
        )

    def seconds(self, trial: Trial) -> float:
        """Seconds of a trial from its first step on."""
        data, epochs = trial.data, trial.recipe.epochs
        epoch = data.num_train * trial.recipe.data_fraction + self.calibration_images
        measured = self.eval_share * (epochs * data.num_val + data.num_test)
        saves = (epochs - 1 + LAST_CHECKPOINT) * self.save_rate * cost_of(trial).params
        return (epochs * epoch + measured) * weighted_sum(self.rates, _features(trial)) + saves


def _peaks(trials: Sequence[Trial], timed: Sequence[tuple[Trial, Record]]) -> dict[str, float]:
    """Peak bytes by trial: a constant, weights with gradients and moments, and a rate per
    activation of a batch."""
    measured = [(t, r) for t, r in timed if r.metrics.get("peak_memory_bytes")]
    if not measured:
        return {}
    rates = nonnegative_rates(
        [_memory_features(t) for t, _ in measured],
        [_value(r, "peak_memory_bytes") for _, r in measured],
    )
    return {t.id: weighted_sum(rates, _memory_features(t)) for t in trials}


def _memory_features(trial: Trial) -> tuple[float, float, float]:
    cost = cost_of(trial)
    return 1e9, 16.0 * cost.params, float(cost.activations * trial.recipe.batch_size)


def _value(record: Record, name: str) -> float:
    value = record.metrics[name]
    assert value is not None, f"the timing of {record.trial_id} has no {name}"
    return value
