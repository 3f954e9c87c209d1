"""Checks of built networks: shapes, initial weights, gradients."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.core.recipes import QUICK
from archsearch.testing.subject import NUM_CLASSES, Subject, require
from archsearch.training.augmentation import to_float

MAX_NAMES = 5
"""How many wrong tensors a message names."""


def check_built(subject: Subject) -> None:
    """Images of two sizes, gray or in color, give (N, num_classes) finite logits that repeat."""
    for num_classes in (NUM_CLASSES, 7):
        network = _built(subject, num_classes)
        for size in (subject.image_size, 224 if subject.image_size != 224 else 256):
            for channels in (1, 3):
                _check_logits(network, images(2, channels, size), num_classes)
    first, second = (_built(subject, NUM_CLASSES).state_dict() for _ in range(2))
    other = [name for name, value in first.items() if not torch.equal(value, second[name])]
    require(
        not other,
        f"two networks of one seed (torch.manual_seed) differ in {_some(other)}",
    )


def images(num: int, channels: int, size: int) -> Tensor:
    """Images (num, 3, size, size) as a training makes them from uint8 images of ``channels``."""
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (num, channels, 8, 8), generator=source, dtype=torch.uint8)
    return (to_float(pixels, size) - 0.5) / 0.25


def _built(subject: Subject, num_classes: int) -> nn.Module:
    """A network that is built as trials build it."""
    torch.manual_seed(0)
    network = subject.variant.build_for(num_classes, QUICK)
    require(isinstance(network, nn.Module), f"build must return an nn.Module, got {network!r:.60}")
    return network


def _check_logits(network: nn.Module, batch: Tensor, num_classes: int) -> None:
    """Check the logits of a batch in training mode, then of a batch and of one image."""
    shape = f"images {tuple(batch.shape)}"
    _check_output(network.train()(batch), len(batch), num_classes, f"{shape} in training mode")
    network.eval()
    with torch.inference_mode():
        first, second, one = (network(x) for x in (batch, batch, batch[:1]))
    _check_output(first, len(batch), num_classes, f"{shape} in evaluation mode")
    _check_output(one, 1, num_classes, "one image")
    require(torch.equal(first, second), f"logits of {shape} change from call to call in eval()")


def _check_output(logits: object, num: int, num_classes: int, where: str) -> None:
    wanted = f"logits of {where} must have the shape ({num}, {num_classes})"
    if not isinstance(logits, Tensor):
        raise AssertionError(f"{wanted}, got a {type(logits).__name__}")
    require(logits.shape == (num, num_classes), f"{wanted}, got {tuple(logits.shape)}")
    is_finite = logits.is_floating_point() and bool(logits.isfinite().all())
    require(is_finite, f"logits of {where} must be finite floating-point numbers")


def check_gradients(subject: Subject) -> None:
    """Every parameter gets a finite gradient."""
    network = _built(subject, NUM_CLASSES).train()
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    require(bool(trained), "the network has no parameter to train")
    loss = F.cross_entropy(network(images(4, 1, subject.image_size)), torch.arange(4))
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: parameter.grad for name, parameter in trained.items()}
    absent = [name for name, grad in gradients.items() if grad is None]
    require(not absent, f"the loss does not depend on {_some(absent)}: no gradient")
    wrong = [n for n, grad in gradients.items() if grad is not None and not grad.isfinite().all()]
    require(not wrong, f"the gradients of {_some(wrong)} are not finite")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
