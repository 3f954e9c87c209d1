"""The training loop, the same for CPU and GPU. It knows nothing of trials, folders or studies.

Trainings are repeatable: (seed, epoch, step) determine the order of images, augmentation and drop
path, so a training that was stopped anywhere and resumes from its checkpoint computes the same
numbers as one that was not. On a CPU they are equal to the last bit, at a fixed number of threads.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from archsearch.core.interrupted import Interrupted, Stop
from archsearch.training.measure import Score, validate
from archsearch.training.state import Training
from archsearch.training.step import check_finite, take_step

Save = Callable[[dict[str, Any], int, bool], None]
"""Takes a state, the number of optimizer steps behind it, and whether it is the best so far."""

Report = Callable[[Mapping[str, Any]], None]
"""Takes a row of the curve (it has ``epoch``), or a heartbeat (it has ``in_epoch``)."""

HEARTBEAT_SECONDS = 10.0
SAVE_SECONDS = 600.0
"""How often a long epoch reports a heartbeat, and saves a checkpoint midway."""


def fit(training: Training, stop: Stop, save: Save, report: Report) -> None:
    """Train to the end from the current state. Saves each epoch before it reports it.

    Raises:
        Interrupted: ``stop()``, called at every step, returned True; the state is saved.
        Diverged: the loss is not finite.
    """
    while not training.finished:
        _train_epoch(training, stop, save, report)
        best = _end_epoch(training)
        save(training.state(), training.steps_done, best)
        training.lap("checkpoints")
        report(training.progress.curve[-1])


def _train_epoch(training: Training, stop: Stop, save: Save, report: Report) -> None:
    p = training.progress
    saved_step, first = p.step, True
    step_ended = save_ended = reported = time.monotonic()
    for batch in training.remaining_batches():
        stopping = training.group.any(stop())
        if (stopping or step_ended - save_ended > SAVE_SECONDS) and p.step > saved_step:
            training.lap("steps")
            save(training.state(), training.steps_done, False)
            training.lap("checkpoints")
            saved_step, save_ended = p.step, time.monotonic()
        if stopping:
            raise Interrupted(f"stopped in epoch {p.epoch + 1}, after step {p.step}")
        take_step(training, batch)
        now = time.monotonic()
        p.epoch_seconds += now - step_ended
        if not first:
            p.timed_images += len(batch[1])
            p.timed_seconds += now - step_ended
        first, step_ended = False, now
        if now - reported > HEARTBEAT_SECONDS:
            report(_heartbeat(training))
            reported = now


def _heartbeat(training: Training) -> dict[str, Any]:
    p = training.progress
    return {
        "in_epoch": p.epoch + 1,
        "epochs": training.recipe.epochs,
        "step": p.step,
        "steps": training.steps_per_epoch,
        "images_per_second": p.images_per_second,
    }


def _end_epoch(training: Training) -> bool:
    """Validate, add a row to the curve and begin the next epoch; returns whether this epoch is the
    best so far."""
    check_finite(training)
    p, started = training.progress, time.monotonic()
    training.copy_sums_to_progress()
    training.lap("steps")
    score = validate(training)
    p.epoch_seconds += time.monotonic() - started
    p.curve.append(_row(training, score))
    best = _update_best(training, score)
    p.epoch, p.step, p.images, p.epoch_seconds = p.epoch + 1, 0, 0, 0.0
    training.sums.zero_()
    return best


def _row(training: Training, score: Score | None) -> dict[str, Any]:
    p = training.progress
    measured = {f"val_{name}": score and score.get(name) for name in training.task.measures}
    return {
        "epoch": p.epoch + 1,
        "epochs": training.recipe.epochs,
        "train_loss": p.loss_sum / p.images,
        **measured,
        "lr": training.optimizer.param_groups[0]["lr"],
        "grad_norm": p.norm_sum / p.step,
        "grad_norm_max": p.norm_max,
        "seconds": p.epoch_seconds,
        "images_per_second": p.images_per_second,
    }


def _update_best(training: Training, score: Score | None) -> bool:
    """Whether this epoch is at least as good as the best; always true without a score."""
    if score is None:
        return True
    p, ranking = training.progress, training.task.metric(training.task.ranking_metric)
    value = score[ranking.field.removeprefix("val_")]
    best = p.best is None or ranking.merit(value) >= ranking.merit(p.best)
    p.best = value if best else p.best
    return best
