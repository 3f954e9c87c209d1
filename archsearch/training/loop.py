"""The training loop, for CPU and GPU alike. It knows nothing of trials, folders or studies.

Repeatable: order, augmentation and drop path are decided by (seed, epoch, step), so a training
that was stopped anywhere and goes on from its checkpoint computes what it would have computed.
On a CPU that holds bit for bit, at a fixed number of threads.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.core.recipe import Recipe
from archsearch.core.study import Interrupted
from archsearch.families.internimage_cost import count
from archsearch.training.augmentation import Pipeline
from archsearch.training.data import split
from archsearch.training.evaluation import Score, calibrate, evaluate
from archsearch.training.images import Dataset
from archsearch.training.loader import (
    Batch,
    Read,
    epoch_batches,
    even_parts,
    mixed_seed,
    num_parts,
    reader,
)
from archsearch.training.memory import PeakMemory, fitting_batch, is_out_of_memory
from archsearch.training.optimizer import averaged, optimizer_of, rate, set_rate
from archsearch.training.process_group import ALONE, World
from internimage import InternImage, ModelConfig

Stop = Callable[[], bool]
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

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Diverged(Exception):
    """The loss is no longer a number; trying again would not change that."""


@dataclass
class Progress:
    """Where a training stands, besides its tensors: plain values, part of every checkpoint.

    ``epoch`` counts finished epochs; ``step``, ``images``, the sums and ``epoch_seconds`` belong
    to the one under way. ``timed_images`` and ``timed_seconds`` leave out the first step of each
    epoch, which pays for what is done once and waits for the first images. ``micro_batch`` is how
    many images go through the network at a time.
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
    best_accuracy: float = -1.0
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
        config: ModelConfig,
        recipe: Recipe,
        dataset: Dataset,
        seed: int,
        device: torch.device,
        world: World = ALONE,
    ) -> None:
        check_precision(recipe, device)
        self.recipe, self.dataset, self.seed = recipe, dataset, seed
        self.device, self.world = device, world
        self.peak = PeakMemory(device)
        torch.manual_seed(mixed_seed(seed))
        self.model = InternImage(config).to(device)
        self.trained = world.wrap(self.model, device)
        self.average = averaged(self.model, recipe)
        self.optimizer = optimizer_of(self.model, recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        kept, held = split(dataset.train.labels, recipe.val_fraction, recipe.data_fraction)
        self.train_indices, self.val_indices = torch.from_numpy(kept), torch.from_numpy(held)
        self.read = reader(dataset.train, recipe.image_size, device)
        self.pipeline = Pipeline(recipe, dataset, device)
        self.cost = count(config, recipe.image_size)
        self.progress = Progress(micro_batch=-(-recipe.batch_size // world.size))
        if world.size == 1:
            self._limit(fitting_batch(recipe, self.cost, device))
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)

    @property
    def steps_per_epoch(self) -> int:
        return num_parts(len(self.train_indices), self.recipe.batch_size)

    @property
    def steps_done(self) -> int:
        """Optimizer steps since the beginning."""
        return self.progress.epoch * self.steps_per_epoch + self.progress.step

    @property
    def finished(self) -> bool:
        return self.progress.epoch >= self.recipe.epochs

    def remaining_batches(self) -> Iterator[Batch]:
        """What is left of the epoch under way."""
        p, recipe = self.progress, self.recipe
        batches = epoch_batches(self.train_indices, recipe.batch_size, self.seed, p.epoch)
        crop_seed = mixed_seed(self.seed, p.epoch) if recipe.crop == "resized" else None
        return self.read([self.world.part(batch) for batch in batches[p.step :]], crop_seed)

    # --- one step

    def step(self, pixels: Tensor, labels: Tensor) -> None:
        """One optimizer step; with several processes, on this one's share of the batch.

        Raises:
            Diverged: the loss is not finite (looked at in every step on a CPU).
        """
        p, images = self.progress, self._images_in_step(len(labels))
        torch.manual_seed(mixed_seed(self.seed, p.epoch, p.step + 1, self.world.rank))
        self.trained.train()
        set_rate(self.optimizer, rate(self.steps_done, self.steps_per_epoch, self.recipe))
        loss_sum = self._backward(*self.pipeline.augmented(pixels, labels), images)
        norm = self._update()
        self._sums[0] += self.world.sum(loss_sum)
        self._sums[1] += norm
        self._sums[2] = torch.maximum(self._sums[2], norm.double())
        p.step, p.images = p.step + 1, p.images + images
        if self.device.type == "cpu" or p.step % FINITE_EVERY == 0:
            self._check_finite()

    def _images_in_step(self, here: int) -> int:
        """Images of the step over all processes: known without asking, as batches are even."""
        if self.world.size == 1:
            return here
        least, larger = divmod(len(self.train_indices), self.steps_per_epoch)
        return least + int(self.progress.step < larger)

    def _backward(self, images: Tensor, targets: Tensor, num_images: int) -> Tensor:
        """Gradients of the mean loss over ``num_images``, in parts that fit; the loss's sum here.

        With several processes lack of memory is raised: the others could not be told in time.
        """
        while True:
            try:
                return self._backward_in_parts(images, targets, num_images)
            except RuntimeError as error:
                last = self.progress.micro_batch <= LEAST_IMAGES or self.world.size > 1
                if last or not is_out_of_memory(error):
                    raise
            # Outside the handler: the error's traceback holds on to the activations.
            self._make_room(len(images))

    def _backward_in_parts(self, images: Tensor, targets: Tensor, num_images: int) -> Tensor:
        largest = -(-num_images // self.world.size)  # as many parts in every process
        parts = num_parts(largest, self.progress.micro_batch)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        smoothing = self.recipe.label_smoothing
        for x, y in zip(images.tensor_split(parts), targets.tensor_split(parts), strict=True):
            with self.autocast():
                logits = self.trained(x)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=smoothing, reduction="sum")
            # Processes' gradients are averaged, so each counts `size` times.
            scaled = self.scaler.scale(loss * (self.world.size / num_images))
            torch.autograd.backward(scaled)
            total += loss.detach()
        return total

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

    def autocast(self) -> torch.autocast:
        dtype = DTYPES[self.recipe.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    # --- measuring

    def validate(self) -> Score | None:
        """On the split held out of the training images; None without one."""
        self._calibrate()
        return self._measure(self.read, self.val_indices)

    def test(self) -> Score | None:
        """On the test split: once, when training has finished, and never to choose by."""
        test = self.dataset.test
        read = reader(test, self.recipe.image_size, self.device)
        return self._measure(read, torch.arange(len(test)))

    @property
    def measured(self) -> nn.Module:
        """The weights that count: the averaged ones, where the recipe averages."""
        return self.model if self.average is None else self.average

    def _calibrate(self) -> None:
        count = min(CALIBRATION_BATCHES * self.recipe.batch_size, len(self.train_indices))
        order = torch.randperm(len(self.train_indices), generator=torch.Generator().manual_seed(0))
        batches = self._in_parts(self.train_indices[order[:count]])
        calibrate(self.measured, self.read(batches), self.pipeline.plain, self.autocast)

    def _measure(self, read: Read, indices: Tensor) -> Score | None:
        batches = read([part for part in self._in_parts(indices) if len(part)])
        return evaluate(self.measured, batches, self.pipeline.plain, self.autocast, self.world)

    def _in_parts(self, indices: Tensor) -> list[Tensor]:
        """This process's shares of parts that fit; as many of them in every process."""
        parts = even_parts(indices, self.progress.micro_batch * self.world.size)
        return [self.world.part(part) for part in parts]

    def end_epoch(self) -> bool:
        """Validate, add a row to the curve, begin the next epoch; whether this was the best."""
        self._check_finite()
        p, started = self.progress, time.monotonic()
        p.loss_sum, p.norm_sum, p.norm_max = self._sums.tolist()
        score = self.validate()
        p.epoch_seconds += time.monotonic() - started
        p.curve.append(self._row(score))
        best = score is None or score.accuracy >= p.best_accuracy
        p.best_accuracy = score.accuracy if score and best else p.best_accuracy
        p.epoch, p.step, p.images, p.epoch_seconds = p.epoch + 1, 0, 0, 0.0
        self._sums.zero_()
        return best

    def _row(self, score: Score | None) -> dict[str, Any]:
        p = self.progress
        return {
            "epoch": p.epoch + 1,
            "epochs": self.recipe.epochs,
            "train_loss": p.loss_sum / p.images,
            "val_accuracy": score and score.accuracy,
            "val_loss": score and score.loss,
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
        fits_here, share = self.progress.micro_batch, -(-self.recipe.batch_size // self.world.size)
        p = self.progress = Progress(**state["progress"])
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


def check_precision(recipe: Recipe, device: torch.device) -> None:
    """Raise `ValueError` where ``device`` cannot compute as ``recipe`` asks."""
    if recipe.precision == "fp16" and device.type != "cuda":
        raise ValueError(f"precision fp16 needs a GPU, this is {device}: use fp32 or bf16")
    if recipe.precision == "bf16" and device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                raise ValueError(f"{device} has no bf16: use precision=fp16 or fp32")


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
    for pixels, labels in training.remaining_batches():
        wanted = training.world.any(stop())
        if (wanted or ticked - saved > SAVE_SECONDS) and p.step > saved_step:
            save(training.state(), training.steps_done, False)
            saved_step, saved = p.step, time.monotonic()
        if wanted:
            raise Interrupted(f"stopped in epoch {p.epoch + 1}, after step {p.step}")
        training.step(pixels, labels)
        now = time.monotonic()
        p.epoch_seconds += now - ticked
        if not first:
            p.timed_images, p.timed_seconds = (
                p.timed_images + len(labels),
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
