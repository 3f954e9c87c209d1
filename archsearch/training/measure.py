"""Measure the network of a training on the validation and test splits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from archsearch.core.task import Batch
from archsearch.training.batch_norm import calibrate
from archsearch.training.device import autocast
from archsearch.training.loader import even_parts
from archsearch.training.state import Training

CALIBRATION_BATCHES = 4
"""Training batches from which BatchNorm's statistics are recomputed before each validation."""

T = TypeVar("T")

Score = Mapping[str, float]
"""The named numbers that a task measures on a split."""


def validate(training: Training) -> Score | None:
    """The score on the split held out of the training images; None if there is none.

    Recomputes BatchNorm's statistics first, unless nothing is measured with them: without a split,
    only the test after the last epoch is.
    """
    last = training.progress.epoch + 1 >= training.recipe.epochs
    if last or len(training.splits.val):
        recalibrate(training)
    training.lap("calibration")
    score = _score(training, training.splits.read, training.splits.val)
    training.lap("validation")
    return score


def measure_test(training: Training) -> Score | None:
    """The score on the test split: measured once, after training, and never used to choose."""
    score = _score(training, training.splits.read_test, training.splits.test)
    training.lap("test")
    return score


def recalibrate(training: Training) -> None:
    """Recompute BatchNorm's statistics from the same training images every time."""
    train = training.splits.train
    count = min(CALIBRATION_BATCHES * training.recipe.batch_size, len(train))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    batches = training.splits.read(_shares(training, train[order[:count]]))
    images = (training.splits.plain(batch)[0] for batch in batches)
    calibrate(
        training.measured, images, lambda: autocast(training.recipe.precision, training.device)
    )


@torch.inference_mode()
def on_held_out(
    training: Training, num: int, function: Callable[[nn.Module, Batch], list[T]]
) -> list[T]:
    """What ``function`` returns of the measured network and the first ``num`` held-out images."""
    batches = training.splits.read([training.splits.val[:num]]) if len(training.splits.val) else ()
    training.measured.eval()
    with autocast(training.recipe.precision, training.device):
        parts = (function(training.measured, training.splits.plain(batch)) for batch in batches)
        return [result for part in parts for result in part]


@torch.inference_mode()
def _score(
    training: Training, read: Callable[[Sequence[Tensor]], Iterator[Batch]], indices: Tensor
) -> Score | None:
    parts = [part for part in _shares(training, indices) if len(part)]
    batches = (training.splits.plain(batch) for batch in read(parts))
    training.measured.eval()
    with autocast(training.recipe.precision, training.device):
        return training.task.measure(training.measured, batches, training.group)


def _shares(training: Training, indices: Tensor) -> list[Tensor]:
    """This process's shares of parts that fit in memory; every process has as many."""
    parts = even_parts(indices, training.progress.micro_batch * training.group.size)
    return [training.group.share(part) for part in parts]
