"""The state of a training: network, data, optimizer and progress, and its checkpoints."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import torch
from torch import nn

from archsearch.core.family import Family
from archsearch.core.metrics import PARTS
from archsearch.core.recipe import Recipe
from archsearch.core.task import Batch, Data, Task
from archsearch.training.device import check_precision
from archsearch.training.graphs import GraphedPasses
from archsearch.training.loader import epoch_batches, mixed_seed, num_parts
from archsearch.training.machine import cuda_graphs_requested
from archsearch.training.memory import PeakMemory, fitting_batch, set_gradient_checkpointing
from archsearch.training.optimizer import averaged_model, build_optimizer
from archsearch.training.process_group import SINGLE_PROCESS, ProcessGroup
from archsearch.training.state_check import optimizer_problems, tensor_problems

STATE_PARTS = ("progress", "model", "average", "optimizer", "scaler")
"""The keys of a checkpoint's state."""

LESS_MEMORY = "out of memory"
"""How the note on a reduced micro-batch begins."""


@dataclass
class TrainingProgress:
    """How far a training is, apart from its tensors: plain values, part of every checkpoint.

    ``epoch`` counts finished epochs; ``step``, ``images``, the sums and ``epoch_seconds`` belong
    to the current one. ``timed_images`` and ``timed_seconds`` leave out the first step of each
    epoch, which includes one-time costs and the wait for the first images. ``micro_batch`` is how
    many images pass through the network at a time, ``best`` the best value so far of the metric
    that ranks variants. ``parts`` are the seconds that each part of the training took: together,
    all of its time.
    """

    micro_batch: int
    epoch: int = 0
    step: int = 0
    images: int = 0
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    norm_max: float = 0.0
    epoch_seconds: float = 0.0
    timed_images: int = 0
    timed_seconds: float = 0.0
    best: float | None = None
    curve: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float | None:
        return self.timed_images / self.timed_seconds if self.timed_images else None


def progress_of(values: Mapping[str, Any]) -> TrainingProgress:
    """The progress in a checkpoint; one written before there were tasks has ``best_accuracy``, and
    one without ``parts`` knows only the seconds of its epochs.

    Raises:
        msgspec.ValidationError: a value is missing or has the wrong type.
    """
    progress = msgspec.convert(values, TrainingProgress)
    if "best_accuracy" in values:
        best = msgspec.convert(values["best_accuracy"], float)
        progress.best = None if best < 0 else best
    if "parts" not in values:
        seconds = (msgspec.convert(row.get("seconds", 0.0), float) for row in progress.curve)
        progress.parts = {"earlier": sum(seconds) + progress.epoch_seconds}
    return progress


def _progress_problems(values: object, epochs: int, steps_per_epoch: int) -> list[str]:
    try:
        p = progress_of(msgspec.convert(values, dict[str, Any]))
    except msgspec.ValidationError as error:
        return [f"progress: {error}"]
    in_range = 0 <= p.epoch <= epochs and 0 <= p.step <= steps_per_epoch and p.micro_batch >= 1
    if in_range and [row.get("epoch") for row in p.curve] == list(range(1, p.epoch + 1)):
        return []
    return [f"progress: epoch {p.epoch}, step {p.step} and {len(p.curve)} epochs in the curve"]


class Training:
    """One network with its data and optimizer on one device, at some point of its training.

    ``model`` is the network, ``trained`` the same with gradients averaged over all processes, and
    ``average`` the network with averaged weights, if the recipe averages them.

    Raises:
        ValueError: the device cannot compute in the recipe's precision, or the data cannot be
            split by the recipe's fractions.
    """

    def __init__(
        self,
        variant: Family,
        recipe: Recipe,
        data: Data,
        seed: int,
        task: Task,
        device: torch.device,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self._lap_began = time.monotonic()
        check_precision(recipe, device)
        self.recipe, self.data, self.seed, self.task = recipe, data, seed, task
        self.device, self.group = device, group
        self.peak = PeakMemory(device)
        torch.manual_seed(mixed_seed(seed))
        self.model = task.build(variant, data, recipe).to(device)
        if recipe.gradient_checkpointing:
            set_gradient_checkpointing(self.model)
        self.trained = group.wrap(self.model, device)
        self.average = averaged_model(self.model, recipe)
        self.optimizer = build_optimizer(self.model, recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.splits = task.prepare(data, recipe, device)
        self.cost = task.cost(variant, data, recipe.image_size, recipe.image_size)
        self.progress = TrainingProgress(micro_batch=-(-recipe.batch_size // group.size))
        if group.size == 1:
            self.limit_micro_batch(fitting_batch(recipe, self.cost, device))
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)
        """Of this epoch, on the device: sum of losses, sum and maximum of gradient norms."""
        on_one_gpu = device.type == "cuda" and group.size == 1
        self.graphed: GraphedPasses | None = None
        # Not tried: blocks that are computed again inside a CUDA graph.
        if on_one_gpu and cuda_graphs_requested() and not recipe.gradient_checkpointing:
            self.graphed = GraphedPasses(self.model, self.note)

    @property
    def steps_per_epoch(self) -> int:
        return num_parts(len(self.splits.train), self.recipe.batch_size)

    @property
    def steps_done(self) -> int:
        """Optimizer steps since the beginning."""
        return self.progress.epoch * self.steps_per_epoch + self.progress.step

    @property
    def finished(self) -> bool:
        return self.progress.epoch >= self.recipe.epochs

    @property
    def measured(self) -> nn.Module:
        """The network that is measured: with averaged weights if the recipe averages them."""
        return self.model if self.average is None else self.average

    def remaining_batches(self) -> Iterator[Batch]:
        """The remaining batches of the current epoch; of each, the images of this process."""
        p = self.progress
        batches = epoch_batches(self.splits.train, self.recipe.batch_size, self.seed, p.epoch)
        shares = [self.group.share(batch) for batch in batches[p.step :]]
        return self.splits.read(shares, mixed_seed(self.seed, p.epoch))

    def begin(self, moment: float) -> None:
        """Count the time from ``moment`` (of `time.monotonic`) on; the default is construction."""
        self._lap_began = moment

    def lap(self, part: str) -> None:
        """Add the time since the previous lap to ``part``, so that no time is left out."""
        assert part in PARTS, f"{part} is no part of a training"
        parts, now = self.progress.parts, time.monotonic()
        parts[part] = parts.get(part, 0.0) + now - self._lap_began
        self._lap_began = now

    def limit_micro_batch(self, micro_batch: int) -> None:
        """Reduce the micro-batch to ``micro_batch`` if it is larger, and note it."""
        p = self.progress
        if micro_batch < p.micro_batch:
            p.micro_batch = micro_batch
            p.notes = [note for note in p.notes if not note.startswith(LESS_MEMORY)]
            p.notes.append(
                f"{LESS_MEMORY}: {micro_batch} images at a time from epoch {p.epoch + 1} on, with "
                f"the same {self.recipe.batch_size} per optimizer step"
            )

    def note(self, text: str) -> None:
        """Add a note to the record, once."""
        if text not in self.progress.notes:
            self.progress.notes.append(text)

    def copy_sums_to_progress(self) -> None:
        """Store the epoch's sums as plain values; on a GPU this waits for the device."""
        self.progress.loss_sum, self.progress.norm_sum, self.progress.norm_max = self.sums.tolist()

    def state(self) -> dict[str, Any]:
        """All that resuming needs; after the last epoch, without the optimizer's moments."""
        self.copy_sums_to_progress()
        return {
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "average": self.average and self.average.state_dict(),
            "optimizer": None if self.finished else self.optimizer.state_dict(),
            "scaler": None if self.finished else self.scaler.state_dict(),
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Check that a `state` fits this training, before `load_state` changes anything.

        Raises:
            ValueError: it does not; the message lists every problem.
        """
        if missing := [name for name in STATE_PARTS if name not in state]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        problems = _progress_problems(state["progress"], self.recipe.epochs, self.steps_per_epoch)
        problems += tensor_problems("model", self.model.state_dict(), state["model"])
        if self.average is not None:
            problems += tensor_problems("average", self.average.state_dict(), state["average"])
        if not problems and state["progress"]["epoch"] < self.recipe.epochs:
            problems += optimizer_problems(self.optimizer, state["optimizer"])
            problems += tensor_problems("scaler", self.scaler.state_dict(), state["scaler"])
        if problems:
            raise ValueError("it does not fit this training: " + "; ".join(problems))

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state` that `check_state` accepts.

        Another number of processes may have saved it, or a machine with more memory: the
        micro-batch that fits here is a limit, and reducing it is noted.
        """
        fits_here, share = self.progress.micro_batch, -(-self.recipe.batch_size // self.group.size)
        p = self.progress = progress_of(state["progress"])
        limited = any(note.startswith(LESS_MEMORY) for note in p.notes)
        p.micro_batch = min(p.micro_batch, share) if limited else share
        self.limit_micro_batch(fits_here)
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if state["optimizer"] is not None:
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
        self.sums.copy_(torch.tensor([p.loss_sum, p.norm_sum, p.norm_max], dtype=torch.float64))
