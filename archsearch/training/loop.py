"""The training loop, for CPU and GPU alike. It knows nothing of trials, folders or studies.

Repeatable: order, augmentation and drop path are decided by (seed, epoch, step), so a training
that was stopped anywhere and goes on from its checkpoint computes what it would have computed.
On a CPU that holds bit for bit, at a fixed number of threads.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from archsearch.core.family import Family
from archsearch.core.interrupted import Interrupted
from archsearch.core.recipe import Recipe
from archsearch.core.task import Batch, Data, Task
from archsearch.training.batch_norm import calibrate
from archsearch.training.device import autocast, check_precision
from archsearch.training.loader import epoch_batches, even_parts, mixed_seed, num_parts
from archsearch.training.memory import PeakMemory, fitting_batch, is_out_of_memory
from archsearch.training.optimizer import averaged, optimizer_of, rate, set_rate
from archsearch.training.process_group import ALONE, ProcessGroup

Stop = Callable[[], bool]
Read = Callable[[Sequence[Tensor]], Iterator[Batch]]
Save = Callable[[dict[str, Any], int, bool], None]
"""Takes a state, the optimizer steps behind it, and whether it is the best so far."""
Tell = Callable[[Mapping[str, Any]], None]
"""Takes a row of the curve (it has ``epoch``), or a sign of life of a long epoch (it has not)."""

TELL_SECONDS = 10.0
SAVE_SECONDS = 600.0
"""How often a long epoch gives a sign of life, and is saved midway."""

FINITE_EVERY = 16
"""Steps between two looks at the loss on a GPU, where each look waits for the device."""

CALIBRATION_BATCHES = 4
"""Training batches that BatchNorm's statistics are taken from, before each measurement."""

LESS_MEMORY = "out of memory"
LEAST_IMAGES = 2
"""That BatchNorm can take at a time."""

Score = Mapping[str, float]
"""What a task measures on a split: its named numbers."""


class Diverged(Exception):
    """The loss is no longer a number; trying again would not change that."""


@dataclass
class Progress:
    """Where a training stands, besides its tensors: plain values, part of every checkpoint.

    ``epoch`` counts finished epochs; ``step``, ``images``, the sums and ``epoch_seconds`` belong
    to the one under way. ``timed_images`` and ``timed_seconds`` leave out the first step of each
    epoch, which pays for what is done once and waits for the first images. ``micro_batch`` is how
    many images go through the network at a time, ``best`` the best value so far of the number that
    chooses.
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


class Training:
    """One network, its data and its optimizer, on one device.

    Raises:
        ValueError: the device cannot compute in the recipe's precision, or the data cannot be
            split as the recipe asks.
    """

    def __init__(
        self,
        variant: Family,
        recipe: Recipe,
        data: Data,
        seed: int,
        task: Task,
        device: torch.device,
        group: ProcessGroup = ALONE,
    ) -> None:
        check_precision(recipe, device)
        self.recipe, self.seed, self.task = recipe, seed, task
        self.device, self.group = device, group
        self.peak = PeakMemory(device)
        torch.manual_seed(mixed_seed(seed))
        self.model = task.build(variant, data, recipe).to(device)
        self.trained = group.wrap(self.model, device)
        self.average = averaged(self.model, recipe)
        self.optimizer = optimizer_of(self.model, recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.splits = task.prepare(data, recipe, device)
        self.cost = task.cost(variant, data, recipe.image_size, recipe.image_size)
        self.progress = Progress(micro_batch=-(-recipe.batch_size // group.size))
        if group.size == 1:
            self._limit(fitting_batch(recipe, self.cost, device))
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)

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

    def remaining_batches(self) -> Iterator[Batch]:
        """What is left of the epoch under way, with the images that each batch has here."""
        p = self.progress
        batches = epoch_batches(self.splits.train, self.recipe.batch_size, self.seed, p.epoch)
        parts = [self.group.part(batch) for batch in batches[p.step :]]
        return self.splits.read(parts, mixed_seed(self.seed, p.epoch))

    # --- one step

    def step(self, batch: Batch) -> None:
        """One optimizer step; with several processes, on this one's share of the batch.

        Raises:
            Diverged: the loss is not finite (looked at in every step on a CPU).
        """
        p, images = self.progress, self._images_in_step(len(batch[1]))
        torch.manual_seed(mixed_seed(self.seed, p.epoch, p.step + 1, self.group.rank))
        self.trained.train()
        set_rate(self.optimizer, rate(self.steps_done, self.steps_per_epoch, self.recipe))
        loss_sum = self._backward(self.splits.augmented(batch), len(batch[1]), images)
        norm = self._update()
        self._sums[0] += self.group.sum(loss_sum)
        self._sums[1] += norm
        self._sums[2] = torch.maximum(self._sums[2], norm.double())
        p.step, p.images = p.step + 1, p.images + images
        if self.device.type == "cpu" or p.step % FINITE_EVERY == 0:
            self._check_finite()

    def _images_in_step(self, here: int) -> int:
        """Images of the step over all processes: known without asking, as batches are even."""
        if self.group.size == 1:
            return here
        least, larger = divmod(len(self.splits.train), self.steps_per_epoch)
        return least + int(self.progress.step < larger)

    def _backward(self, batch: Batch, here: int, num_images: int) -> Tensor:
        """Gradients of the mean loss over ``num_images``, in parts that fit; the loss's sum here.

        With several processes lack of memory is raised: the others could not be told in time.
        """
        while True:
            try:
                return self._backward_in_parts(batch, num_images)
            except RuntimeError as error:
                last = self.progress.micro_batch <= LEAST_IMAGES or self.group.size > 1
                if last or not is_out_of_memory(error):
                    raise
            # Outside the handler: the error's traceback holds on to the activations.
            self._make_room(here)

    def _backward_in_parts(self, batch: Batch, num_images: int) -> Tensor:
        largest = -(-num_images // self.group.size)  # as many parts in every process
        num = num_parts(largest, self.progress.micro_batch)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        weights: list[Tensor] = []
        for part in self.splits.parts(batch, num):
            with autocast(self.recipe, self.device):
                loss, weight = self.task.loss(self.trained, part, self.recipe)
            if isinstance(weight, Tensor):
                weights.append(weight.detach())
            # Processes' gradients are averaged, so each counts `size` times.
            scaled = self.scaler.scale(loss * (self.group.size / num_images))
            torch.autograd.backward(scaled)
            total += loss.detach()
        if not weights:
            return total
        per_weight = num_images / self.group.sum(torch.stack(weights).sum().double())
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(per_weight)
        return total * per_weight

    def _make_room(self, num_images: int) -> None:
        self._limit(max(LEAST_IMAGES, min(self.progress.micro_batch, num_images) // 2))
        self.optimizer.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _limit(self, micro_batch: int) -> None:
        p = self.progress
        if micro_batch < p.micro_batch:
            p.micro_batch = micro_batch
            p.notes = [note for note in p.notes if not note.startswith(LESS_MEMORY)]
            p.notes.append(
                f"{LESS_MEMORY}: {micro_batch} images at a time from epoch {p.epoch + 1} on, with "
                f"the same {self.recipe.batch_size} per optimizer step"
            )

    def _update(self) -> Tensor:
        """Clip, step, average; returns the gradient's norm before clipping."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return norm

    def _check_finite(self) -> None:
        loss = float(self._sums[0])
        if not math.isfinite(loss):
            raise Diverged(
                f"the loss became {loss} in epoch {self.progress.epoch + 1}, "
                f"by step {self.progress.step} of {self.steps_per_epoch}"
            )

    # --- measuring

    def validate(self) -> Score | None:
        """On the split held out of the training images; None without one."""
        self._calibrate()
        return self._measure(self.splits.read, self.splits.val)

    def test(self) -> Score | None:
        """On the test split: once, when training has finished, and never to choose by."""
        return self._measure(self.splits.read_test, self.splits.test)

    @property
    def measured(self) -> nn.Module:
        """The weights that count: the averaged ones, where the recipe averages."""
        return self.model if self.average is None else self.average

    def _calibrate(self) -> None:
        train = self.splits.train
        count = min(CALIBRATION_BATCHES * self.recipe.batch_size, len(train))
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        batches = self.splits.read(self._in_parts(train[order[:count]]))
        images = (self.splits.plain(batch)[0] for batch in batches)
        calibrate(self.measured, images, lambda: autocast(self.recipe, self.device))

    @torch.inference_mode()
    def _measure(self, read: Read, indices: Tensor) -> Score | None:
        parts = [part for part in self._in_parts(indices) if len(part)]
        batches = (self.splits.plain(batch) for batch in read(parts))
        self.measured.eval()
        with autocast(self.recipe, self.device):
            return self.task.measure(self.measured, batches, self.group)

    def _in_parts(self, indices: Tensor) -> list[Tensor]:
        """This process's shares of parts that fit; as many of them in every process."""
        parts = even_parts(indices, self.progress.micro_batch * self.group.size)
        return [self.group.part(part) for part in parts]

    def end_epoch(self) -> bool:
        """Validate, add a row to the curve, begin the next epoch; whether this was the best."""
        self._check_finite()
        p, started = self.progress, time.monotonic()
        p.loss_sum, p.norm_sum, p.norm_max = self._sums.tolist()
        score = self.validate()
        p.epoch_seconds += time.monotonic() - started
        p.curve.append(self._row(score))
        best = self._is_best(score)
        p.epoch, p.step, p.images, p.epoch_seconds = p.epoch + 1, 0, 0, 0.0
        self._sums.zero_()
        return best

    def _is_best(self, score: Score | None) -> bool:
        """Whether this epoch is as good as the best one; it always is without a score."""
        if score is None:
            return True
        chooses = self.task.metric(self.task.chooses)
        value = score[chooses.field.removeprefix("val_")]
        p = self.progress
        best = p.best is None or chooses.merit(value) >= chooses.merit(p.best)
        p.best = value if best else p.best
        return best

    def _row(self, score: Score | None) -> dict[str, Any]:
        p = self.progress
        measured = {f"val_{name}": score and score[name] for name in self.task.measures}
        return {
            "epoch": p.epoch + 1,
            "epochs": self.recipe.epochs,
            "train_loss": p.loss_sum / p.images,
            **measured,
            "lr": self.optimizer.param_groups[0]["lr"],
            "grad_norm": p.norm_sum / p.step,
            "grad_norm_max": p.norm_max,
            "seconds": p.epoch_seconds,
            "images_per_second": self.images_per_second,
        }

    @property
    def images_per_second(self) -> float | None:
        p = self.progress
        return p.timed_images / p.timed_seconds if p.timed_images else None

    # --- checkpoints

    def state(self) -> dict[str, Any]:
        """All that is needed to go on; after the last epoch, all but the optimizer's moments."""
        self.progress.loss_sum, self.progress.norm_sum, self.progress.norm_max = self._sums.tolist()
        return {
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "average": self.average and self.average.state_dict(),
            "optimizer": None if self.finished else self.optimizer.state_dict(),
            "scaler": None if self.finished else self.scaler.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`, which another number of processes may have saved, or a machine
        with more memory: what fits here is a limit, and noted."""
        fits_here, share = self.progress.micro_batch, -(-self.recipe.batch_size // self.group.size)
        p = self.progress = progress_of(state["progress"])
        limited = any(note.startswith(LESS_MEMORY) for note in p.notes)
        p.micro_batch = min(p.micro_batch, share) if limited else share
        self._limit(fits_here)
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if state["optimizer"] is not None:
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
        self._sums.copy_(torch.tensor([p.loss_sum, p.norm_sum, p.norm_max], dtype=torch.float64))


def progress_of(values: Mapping[str, Any]) -> Progress:
    """The progress that a checkpoint holds; before there were tasks it held the best accuracy."""
    values = dict(values)
    if "best_accuracy" in values:
        best = values.pop("best_accuracy")
        values["best"] = None if best < 0 else best
    return Progress(**values)


def fit(training: Training, stop: Stop, save: Save, tell: Tell) -> None:
    """Train to the end, from wherever ``training`` stands. Saves first, then tells.

    Raises:
        Interrupted: ``stop()`` was true, asked at every step; the state is saved.
        Diverged: the loss is not finite.
    """
    while not training.finished:
        _epoch(training, stop, save, tell)
        best = training.end_epoch()
        save(training.state(), training.steps_done, best)
        tell(training.progress.curve[-1])


def _epoch(training: Training, stop: Stop, save: Save, tell: Tell) -> None:
    p = training.progress
    saved_step, first = p.step, True
    ticked = saved = told = time.monotonic()
    for batch in training.remaining_batches():
        wanted = training.group.any(stop())
        if (wanted or ticked - saved > SAVE_SECONDS) and p.step > saved_step:
            save(training.state(), training.steps_done, False)
            saved_step, saved = p.step, time.monotonic()
        if wanted:
            raise Interrupted(f"stopped in epoch {p.epoch + 1}, after step {p.step}")
        training.step(batch)
        now = time.monotonic()
        p.epoch_seconds += now - ticked
        if not first:
            p.timed_images, p.timed_seconds = (
                p.timed_images + len(batch[1]),
                p.timed_seconds + now - ticked,
            )
        first, ticked = False, now
        if now - told > TELL_SECONDS:
            tell(_sign_of_life(training))
            told = now


def _sign_of_life(training: Training) -> dict[str, Any]:
    p = training.progress
    return {
        "in_epoch": p.epoch + 1,
        "epochs": training.recipe.epochs,
        "step": p.step,
        "steps": training.steps_per_epoch,
        "images_per_second": training.images_per_second,
    }
