"""How many predictions survive when the images are shifted or turned?"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from archsearch.core.family import differing_switches, with_switches
from archsearch.study import About

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archsearch.core.task import Batch
    from archsearch.probes.networks import Network
    from archsearch.probes.photos import Consistency

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Supplement F.1 and F.2 (Fig. C, rows 1 and 2)",
    command="archsearch robustness RUN:best",
    small="the validation split of the digits: about a minute on a CPU",
    full="the validation images of ImageNet-1K at 224 x 224",
)

PAPER_SIZE = 224
SHIFTS = tuple(range(0, 65, 8))
"""Pixels of a 224 image. The paper says 0 to 64, and no step."""

ANGLES = tuple(range(0, 46, 5))
"""Degrees (F.2)."""

DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
"""Shifts are measured in all four, turns in both ways; the paper does not say which it took."""

Move = Callable[["Tensor"], "Tensor"]


def shift(images: "Tensor", dx: int, dy: int) -> "Tensor":
    """``(N, C, H, W)`` moved ``dx`` pixels to the right and ``dy`` down; zeros come in.

    Zero is the data's mean, because images are normalised before they are moved.
    """
    import torch

    moved = torch.zeros_like(images)
    height, width = images.shape[-2:]
    if abs(dx) < width and abs(dy) < height:
        to = (slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0)))
        of = (slice(max(-dy, 0), height + min(-dy, 0)), slice(max(-dx, 0), width + min(-dx, 0)))
        moved[..., to[0], to[1]] = images[..., of[0], of[1]]
    return moved


def rotate(images: "Tensor", degrees: float) -> "Tensor":
    """``(N, C, S, S)`` turned counter-clockwise about the middle, bilinear; zeros come in."""
    import math

    import torch
    import torch.nn.functional as F

    if degrees == 0:
        return images
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = torch.tensor([[c, -s, 0], [s, c, 0]], device=images.device, dtype=images.dtype)
    size = list(images.shape)
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), size, align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def moves(size: int) -> "Iterator[tuple[str, float, float, tuple[Move, ...]]]":
    """What is done to images of ``size``: transform, amount, the paper's amount, and the ways.

    Shifts are scaled with the image, so that they are the same share of it as in the paper, to
    whole pixels; those that come out equal are taken once.
    """
    pixels = {round(p * size / PAPER_SIZE): p for p in reversed(SHIFTS)}
    for amount in sorted(pixels):
        ways = tuple(_shifter(amount * x, amount * y) for x, y in DIRECTIONS)
        yield "translation", float(amount), amount * PAPER_SIZE / size, ways
    for angle in ANGLES:
        yield "rotation", float(angle), float(angle), (_turner(angle), _turner(-angle))


def _shifter(dx: int, dy: int) -> Move:
    return lambda images: shift(images, dx, dy)


def _turner(degrees: float) -> Move:
    return lambda images: rotate(images, degrees)


def consistency(
    label: str, model: "nn.Module", batches: "Iterable[Batch]", size: int
) -> "tuple[Consistency, ...]":
    """The share of images with the prediction that they have unmoved, for every move.

    Each image counts as the share of the directions in which it keeps its prediction. Wilson's 95%
    interval takes the images for the sample, not images times directions, which are not
    independent: with shares in between it is wider than it need be.

    Args:
        batches: normalised images ``(N, 3, size, size)`` and labels.
    """
    import torch

    planned = list(moves(size))
    same = torch.zeros(len(planned), dtype=torch.float64)
    right, num_images = torch.zeros_like(same), 0
    with torch.inference_mode():
        for images, labels in batches:
            before = model(images).argmax(-1)
            num_images += len(images)
            for i, (_, amount, _, ways) in enumerate(planned):
                # No move at all is no computation either: all its ways are the images themselves.
                after = [before] if amount == 0 else [model(w(images)).argmax(-1) for w in ways]
                same[i] += sum(float((a == before).sum()) for a in after) / len(after)
                right[i] += sum(float((a == labels).sum()) for a in after) / len(after)
    return tuple(
        _row(label, *move[:3], float(same[i]), float(right[i]), num_images)
        for i, move in enumerate(planned)
    )


def _row(
    label: str,
    transform: str,
    amount: float,
    paper_amount: float,
    same: float,
    right: float,
    num_images: int,
) -> "Consistency":
    from archsearch.probes.photos import Consistency

    low, high = wilson(same / num_images, num_images)
    return Consistency(
        label, transform, amount, paper_amount, same / num_images, low, high,
        100 * right / num_images, num_images,
    )  # fmt: skip


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The interval of Wilson (1927) for a share of ``n``; it is not empty at 0 and at 1."""
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, center - half), min(1.0, center + half)


def compare(
    networks: "Sequence[Network]", data: str | None = None, most: int = 1000, batch_size: int = 64
) -> "tuple[Consistency, ...]":
    """`consistency` of each network on a validation split, of at most ``most`` images.

    The data is ``data``, or the one that the network was trained on.

    Raises:
        ValueError: a network that was not trained here, and no data named for it; or one that has
            fewer classes than the data.
    """
    found: list[Consistency] = []
    for network, label in zip(networks, _labels(networks), strict=True):
        found += consistency(
            label, network.model, _batches(network, data, most, batch_size), network.image_size
        )
    return tuple(found)


def _labels(networks: "Sequence[Network]") -> list[str]:
    """Names apart: by the switches in which their variants differ, and numbered where that is not
    enough."""
    switches = differing_switches(n.trial.variant for n in networks if n.trial)
    names = [_name(n, switches) for n in networks]
    return [f"{n} ({i})" if names.count(n) > 1 else n for i, n in enumerate(names, 1)]


def _name(network: "Network", switches: list[str]) -> str:
    trial = network.trial
    name = with_switches(network.label, trial.variant, switches) if trial else network.label
    return name if network.trained else f"{name}, untrained"


def _batches(network: "Network", data: str | None, most: int, batch_size: int) -> "Iterator[Batch]":
    import numpy as np
    import torch

    from archsearch.training.data import load, split
    from archsearch.training.loader import even_parts, reader

    trial = network.trial
    name = data or (trial.data.name if trial else None)
    if name is None:
        raise ValueError(f"{network.label} does not come from a run: name the images with --data")
    dataset = load(name)
    classes = network.model.config.num_classes
    if classes < len(dataset.classes):
        raise ValueError(f"{network.label} has {classes} classes, {name} {len(dataset.classes)}")
    _, held = split(dataset.train.labels, trial.recipe.val_fraction if trial else 0.1)
    kept = np.random.RandomState(0).permutation(held)[:most]
    read = reader(dataset.train, network.image_size, torch.device("cpu"))
    for pixels, labels in read(even_parts(torch.from_numpy(kept), batch_size)):
        yield network.prepare(pixels), labels
