"""One optimizer step of a training, in parts that fit in memory."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from archsearch.core.task import Batch
from archsearch.training.device import autocast
from archsearch.training.loader import mixed_seed, num_parts
from archsearch.training.memory import MIN_IMAGES, is_out_of_memory
from archsearch.training.optimizer import learning_rate, set_learning_rate
from archsearch.training.state import Training

FINITE_EVERY = 16
"""Steps between two checks of the loss on a GPU, where each check waits for the device."""

_CLIP_EPSILON = 1e-6
"""What torch adds to the norm before it divides by it."""


class Diverged(Exception):
    """The loss is not finite; repeating the training would not change that."""


def take_step(training: Training, batch: Batch) -> None:
    """Take one optimizer step; with several processes, ``batch`` is this process's share.

    Raises:
        Diverged: the loss is not finite (checked in every step on a CPU).
    """
    p, images = training.progress, _images_in_step(training, len(batch[1]))
    torch.manual_seed(mixed_seed(training.seed, p.epoch, p.step + 1, training.group.rank))
    training.trained.train()
    rate = learning_rate(training.steps_done, training.steps_per_epoch, training.recipe)
    set_learning_rate(training.optimizer, rate)
    loss_sum = backward(training, training.splits.augmented(batch), len(batch[1]), images)
    norm = _update(training)
    training.sums[0] += training.group.sum(loss_sum)
    training.sums[1] += norm
    training.sums[2] = torch.maximum(training.sums[2], norm.double())
    p.step, p.images = p.step + 1, p.images + images
    if training.device.type == "cpu" or p.step % FINITE_EVERY == 0:
        check_finite(training)


def check_finite(training: Training) -> None:
    """Check the loss of the current epoch.

    Raises:
        Diverged: it is not finite.
    """
    loss = float(training.sums[0])
    if not math.isfinite(loss):
        raise Diverged(
            f"the loss became {loss} in epoch {training.progress.epoch + 1}, "
            f"by step {training.progress.step} of {training.steps_per_epoch}"
        )


def _images_in_step(training: Training, share: int) -> int:
    """Images of the step over all processes, computed without communication: batches are even."""
    if training.group.size == 1:
        return share
    least, num_larger = divmod(len(training.splits.train), training.steps_per_epoch)
    return least + int(training.progress.step < num_larger)


def backward(training: Training, batch: Batch, share: int, num_images: int) -> Tensor:
    """Compute gradients of the mean loss over ``num_images``, of which ``share`` are here, in
    parts that fit; returns the sum of the losses here.

    With several processes an out-of-memory error is raised: the others cannot be informed in time.
    """
    while True:
        try:
            return backward_in_parts(training, batch, num_images)
        except RuntimeError as error:
            smallest = training.progress.micro_batch <= MIN_IMAGES
            if smallest or training.group.size > 1 or not is_out_of_memory(error):
                raise
        # Outside the handler: the error's traceback keeps the activations in memory.
        _reduce_micro_batch(training, share)


def backward_in_parts(training: Training, batch: Batch, num_images: int) -> Tensor:
    """`backward` at the current micro-batch."""
    largest_share = -(-num_images // training.group.size)  # every process takes as many parts
    num = num_parts(largest_share, training.progress.micro_batch)
    total = torch.zeros((), dtype=torch.float64, device=training.device)
    weights: list[Tensor] = []
    compute = partial(_compute, training, num_images)
    for part in training.splits.parts(batch, num):
        graphed = training.graphed if num == 1 else None
        loss, weight = graphed(compute, part) if graphed else compute(part)
        if isinstance(weight, Tensor):
            weights.append(weight)
        total += loss
    if not weights:
        return total
    weight = training.group.sum(torch.stack(weights).sum().double())
    per_weight = torch.where(weight > 0, num_images / weight, 0.0)  # no labels: no gradient
    for parameter in training.model.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(per_weight)
    return total * per_weight


def _compute(training: Training, num_images: int, part: Batch) -> tuple[Tensor, Tensor | int]:
    """Loss and weight of a part; its gradients are added to those of the network."""
    with autocast(training.recipe.precision, training.device):
        loss, weight = training.task.loss(training.trained, part, training.recipe)
    # Gradients are averaged over processes, so each counts `size` times.
    scaled = training.scaler.scale(loss * (training.group.size / num_images))
    torch.autograd.backward(scaled)
    return loss.detach(), weight.detach() if isinstance(weight, Tensor) else weight


def _reduce_micro_batch(training: Training, num_images: int) -> None:
    micro_batch = min(training.progress.micro_batch, num_images) // 2
    training.limit_micro_batch(max(MIN_IMAGES, micro_batch))
    training.optimizer.zero_grad()
    if training.device.type == "cuda":
        torch.cuda.empty_cache()


def _update(training: Training) -> Tensor:
    """Clip gradients, update weights and their average; returns the gradient norm before
    clipping."""
    training.scaler.unscale_(training.optimizer)
    norm = _clip_gradients(training)
    training.scaler.step(training.optimizer)
    training.scaler.update()
    training.optimizer.zero_grad()
    if training.average is not None:
        training.average.update_parameters(training.model)
    return norm


def _clip_gradients(training: Training) -> Tensor:
    """`torch.nn.utils.clip_grad_norm_`, without its pass over gradients that are short enough.

    That pass multiplies them by 1, which changes nothing. A GPU makes it, because the norm would
    have to be waited for.
    """
    parameters, longest = list(training.model.parameters()), training.recipe.clip_norm
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if norm.device.type != "cpu" or not norm + _CLIP_EPSILON <= longest:
        nn.utils.clip_grads_with_norm_(parameters, longest, norm)
    return norm
