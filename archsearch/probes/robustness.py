"""How consistent are predictions when the images are shifted or rotated?"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from archsearch.core.family import differing_switches, name_with_switches
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
"""Pixels of an image with side 224. The paper says 0 to 64 and does not give the step."""

ANGLES = tuple(range(0, 46, 5))
"""Degrees (F.2)."""

DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
"""Shifts are measured in all four directions, rotations in both; the paper does not say which."""

Transform = Callable[["Tensor"], "Tensor"]


def shift(images: "Tensor", dx: int, dy: int) -> "Tensor":
    """Return ``(N, C, H, W)`` moved ``dx`` pixels to the right and ``dy`` down, filled with zeros.

    Zero is the data's mean, because images are normalized before they are moved.
    """
    import torch

    moved = torch.zeros_like(images)
    height, width = images.shape[-2:]
    if abs(dx) < width and abs(dy) < height:
        to_y, to_x = _overlap(dy, height), _overlap(dx, width)
        from_y, from_x = _overlap(-dy, height), _overlap(-dx, width)
        moved[..., to_y, to_x] = images[..., from_y, from_x]
    return moved


def _overlap(offset: int, side: int) -> slice:
    """Return the pixels of one axis that stay in the image after a shift by ``offset``."""
    return slice(max(offset, 0), side + min(offset, 0))


def rotate(images: "Tensor", degrees: float) -> "Tensor":
    """Return ``(N, C, S, S)`` rotated counterclockwise about the center: bilinear, zero-filled."""
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


def transforms(size: int) -> "Iterator[tuple[str, float, float, tuple[Transform, ...]]]":
    """Yield the transforms of images of ``size``: name, amount, paper's amount, and directions.

    Shifts are scaled to the same fraction of the image as in the paper, in whole pixels; equal ones
    are used once.
    """
    pixels = {round(p * size / PAPER_SIZE): p for p in reversed(SHIFTS)}
    for amount in sorted(pixels):
        shifts = tuple(partial(shift, dx=amount * x, dy=amount * y) for x, y in DIRECTIONS)
        yield "translation", float(amount), amount * PAPER_SIZE / size, shifts
    for angle in ANGLES:
        rotations = tuple(partial(rotate, degrees=degrees) for degrees in (angle, -angle))
        yield "rotation", float(angle), float(angle), rotations


def consistency(
    label: str, model: "nn.Module", batches: "Iterable[Batch]", size: int
) -> "tuple[Consistency, ...]":
    """Return, for every transform, the share of images that keep their original prediction.

    Each image counts as the share of the directions in which it keeps its prediction. Wilson's 95%
    interval uses the images as the sample, not images times directions, which are not independent.
    So it is wider than necessary where images keep their prediction in some directions only.

    Args:
        batches: normalized images ``(N, 3, size, size)`` and labels.
    """
    import torch

    from archsearch.probes.photos import Consistency

    planned = list(transforms(size))
    same = torch.zeros(len(planned), dtype=torch.float64)
    correct, num_images = torch.zeros_like(same), 0
    with torch.inference_mode():
        for images, labels in batches:
            original = model(images).argmax(-1)
            num_images += len(images)
            for i, (_, amount, _, directions) in enumerate(planned):
                predictions = (
                    [original]  # amount 0 leaves the images as they are in every direction
                    if amount == 0
                    else [model(transform(images)).argmax(-1) for transform in directions]
                )
                num = len(predictions)
                same[i] += sum(float((p == original).sum()) for p in predictions) / num
                correct[i] += sum(float((p == labels).sum()) for p in predictions) / num
    shares, accuracies = (same / num_images).tolist(), (100 * correct / num_images).tolist()
    return tuple(
        Consistency(label, *row[:3], share, *wilson(share, num_images), accuracy, num_images)
        for row, share, accuracy in zip(planned, shares, accuracies, strict=True)
    )


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the interval of Wilson (1927) for a share of ``n``; it has a width at 0 and 1 too."""
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, center - half), min(1.0, center + half)


def compare(
    networks: "Sequence[Network]",
    data: str | None = None,
    max_images: int = 1000,
    batch_size: int = 64,
) -> "tuple[Consistency, ...]":
    """Return `consistency` of each network on at most ``max_images`` of a validation split.

    The data is ``data``, or else the data that the network was trained on.

    Raises:
        ValueError: if ``data`` is missing for a network that is not from a run, or a network has
            fewer classes than the data.
    """
    rows: list[Consistency] = []
    for network, label in zip(networks, _labels(networks), strict=True):
        batches = _batches(network, data, max_images, batch_size)
        rows += consistency(label, network.model, batches, network.image_size)
    return tuple(rows)


def _labels(networks: "Sequence[Network]") -> list[str]:
    """Return distinct names: with the switches that differ, and numbered if still equal."""
    switches = differing_switches(n.trial.variant for n in networks if n.trial)
    names = [_name(n, switches) for n in networks]
    return [f"{n} ({i})" if names.count(n) > 1 else n for i, n in enumerate(names, 1)]


def _name(network: "Network", switches: list[str]) -> str:
    trial = network.trial
    name = name_with_switches(network.label, trial.variant, switches) if trial else network.label
    return name if network.trained else f"{name}, untrained"


def _batches(
    network: "Network", data: str | None, max_images: int, batch_size: int
) -> "Iterator[Batch]":
    import numpy as np
    import torch

    from archsearch.storage.files import log
    from archsearch.training.data import load, split
    from archsearch.training.loader import even_parts, reader

    trial = network.trial
    name = data or (trial.data.name if trial else None)
    if name is None:
        raise ValueError(f"{network.label} is not from a run: give the images with --data")
    dataset = load(name)
    for note in dataset.notes:
        log.warning("Data: %s", note)
    classes = network.model.config.num_classes
    if classes < len(dataset.classes):
        raise ValueError(f"{network.label} has {classes} classes, {name} {len(dataset.classes)}")
    val_fraction = trial.recipe.val_fraction if trial else 0.1
    _, held_out = split(dataset.train.labels, val_fraction, classes=dataset.classes)
    chosen = np.random.RandomState(0).permutation(held_out)[:max_images]
    read = reader(dataset.train, network.image_size, torch.device("cpu"))
    for pixels, labels in read(even_parts(torch.from_numpy(chosen), batch_size)):
        yield network.prepare(pixels), labels
