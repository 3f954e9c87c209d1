"""What a study will cost, before it is trained: a few timed steps of its corner cells.

Time per image is modelled as a sum of non-negative rates: seconds per multiply-add and per
activation of the trained network (in closed form), and per block for what is neither. The study's
own runner times the corners, side by side as they would train.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from archsearch.core.cost import Cost
from archsearch.study import Record, Trial

CORNERS = 4
EVAL_SHARE = 1 / 3
"""A forward pass against a training step, which is about three of them."""


@dataclass(frozen=True)
class Quote:
    """Predicted before training. ``seconds`` by trial id, of training alone; ``hours`` in all.

    ``setup_seconds`` is what each worker spends once, on its imports and its first data.
    ``peak_bytes`` is the largest trial's, ``memory_bytes`` what one worker can have.
    ``too_large`` names networks that are not expected to fit beside the other workers.
    """

    seconds: Mapping[str, float]
    setup_seconds: float
    workers: int
    peak_bytes: int | None
    memory_bytes: int | None
    too_large: tuple[str, ...]
    timed: tuple[str, ...]

    @property
    def hours(self) -> float:
        """At all workers; never less than the longest trial."""
        longest = max(self.seconds.values(), default=0.0)
        busy = max(sum(self.seconds.values()) / self.workers, longest)
        return (self.setup_seconds + busy) / 3600

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "hours": self.hours}


def corners(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """The trials whose networks have the least and the most of something that takes time."""
    by_variant = {trial.variant: trial for trial in trials}
    listed = list(by_variant.values())
    if len(listed) <= CORNERS:
        return tuple(listed)
    keys: tuple[Callable[[Trial], float], ...] = (
        lambda t: _cost(t).macs,
        lambda t: _cost(t).activations,
        lambda t: t.variant.num_blocks,
    )
    found = [end(listed, key=key) for key in keys for end in (max, min)]
    return tuple(dict.fromkeys(found))[:CORNERS]


def quote(
    trials: Sequence[Trial],
    timed: Mapping[str, Record],
    workers: int,
    *,
    free_bytes: int | None = None,
    num_gpus: int = 1,
) -> Quote:
    """The cost of ``trials`` from the records of timed ones (`archsearch.running.timing`).

    ``free_bytes`` is the machine's memory before anything was timed, which workers on a CPU share;
    on GPUs the workers share ``num_gpus`` evenly.

    Raises:
        ValueError: when nothing was timed, with the first reason.
    """
    known = [(t, timed[t.id]) for t in trials if t.id in timed and timed[t.id].cost]
    if not known:
        errors = (r.error.partition("\n")[0] for r in timed.values() if r.error)
        raise ValueError(next(errors, "nothing was timed"))
    rates = _fit(
        [_features(t) for t, _ in known], [_value(r, "seconds_per_image") for _, r in known]
    )
    setup = max(_value(r, "setup_seconds") for _, r in known)
    seconds = {t.id: _images(t) * _dot(rates, _features(t)) for t in trials}
    peaks = _peaks(trials, known)
    gpu = min((int(m) for _, r in known if (m := r.metrics.get("memory_bytes"))), default=None)
    room = _share(free_bytes, workers) if gpu is None else _share(gpu, -(-workers // num_gpus))
    too_large = {t.variant.name for t in trials if room and peaks.get(t.id, 0) > room}
    return Quote(
        seconds=seconds,
        setup_seconds=setup,
        workers=workers,
        peak_bytes=round(max(peaks.values())) if peaks else None,
        memory_bytes=room,
        too_large=tuple(sorted(too_large)),
        timed=tuple(t.variant.name for t, _ in known),
    )


def outcome(quoted: Mapping[str, float], records: Iterable[Record]) -> tuple[float, float]:
    """(quoted, taken) seconds over the trials that have both and came to their end.

    One that diverged or failed stopped early and would make the quote seem too high.
    """
    done = (r for r in records if r.status == "complete" and r.trial_id in quoted)
    pairs = [(quoted[r.trial_id], r.seconds) for r in done]
    return sum(q for q, _ in pairs), sum(taken for _, taken in pairs)


def _share(memory: int | None, among: int) -> int | None:
    return None if memory is None else memory // among


def _cost(trial: Trial) -> Cost:
    size = trial.recipe.image_size
    return trial.task.cost(trial.variant, trial.data, size, size)


def _features(trial: Trial) -> tuple[float, float, float]:
    cost = _cost(trial)
    return float(cost.macs), float(cost.activations), float(trial.variant.num_blocks)


def _images(trial: Trial) -> float:
    """Images through training steps, those that are only measured at their share."""
    data, epochs = trial.data, trial.recipe.epochs
    train = data.num_train * trial.recipe.data_fraction
    return epochs * (train + EVAL_SHARE * data.num_val) + EVAL_SHARE * data.num_test


def _peaks(trials: Sequence[Trial], known: Sequence[tuple[Trial, Record]]) -> dict[str, float]:
    """Peak bytes by trial: weights, gradients and moments, and a rate per activation of a batch."""
    measured = [(t, r) for t, r in known if r.metrics.get("peak_memory_bytes")]
    if not measured:
        return {}
    rates = _fit(
        [_memory_features(t) for t, _ in measured],
        [_value(r, "peak_memory_bytes") for _, r in measured],
    )
    return {t.id: _dot(rates, _memory_features(t)) for t in trials}


def _memory_features(trial: Trial) -> tuple[float, float, float]:
    cost = _cost(trial)
    return 1e9, 16.0 * cost.params, float(cost.activations * trial.recipe.batch_size)


def _fit(rows: Sequence[tuple[float, ...]], values: Sequence[float]) -> list[float]:
    """Non-negative least squares, every row and column scaled to one."""
    import numpy as np
    from scipy.optimize import nnls

    matrix, target = np.array(rows), np.array(values)
    scale = np.maximum(matrix.max(axis=0), 1e-30)
    rates, _ = nnls(matrix / scale / target[:, None], np.ones(len(target)))
    return [float(rate) for rate in rates / scale]


def _dot(rates: Sequence[float], features: Sequence[float]) -> float:
    return sum(r * f for r, f in zip(rates, features, strict=True))


def _value(record: Record, name: str) -> float:
    value = record.metrics[name]
    assert value is not None, f"the timing of {record.trial_id} has no {name}"
    return value
