"""What can be seen in one network: the values that studies measure and reports draw. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsearch.training.images import decode, read_file

Photo = NDArray[np.uint8]
"""A picture ``(H, W, 3)``."""

SAMPLES = ("china", "flower")
"""Photographs inside scikit-learn."""


@dataclass(frozen=True)
class ReceptiveField:
    """Which pixels one place of one stage's map answers to.

    ``energy`` is ``(H, W)``: the squared gradient of the place's channels, summed over channels and
    colours. ``center`` is the place in pixels of the image as (x, y); the radii, in pixels around
    it, hold 50 and 90 percent of the energy.
    """

    network: str
    stage: int
    center: tuple[float, float]
    energy: NDArray[np.float64]
    radius50: float
    radius90: float


@dataclass(frozen=True)
class SamplingLocations:
    """Where one block looks for one place of its map, all in pixels of the image as (x, y).

    ``points`` is ``(G, P, 2)``, ``modulation`` ``(G, P)``; (0, 0) is the centre of the first pixel.
    """

    stage: int
    block: int
    center: tuple[float, float]
    points: NDArray[np.float64]
    modulation: NDArray[np.float64]


@dataclass(frozen=True)
class Consistency:
    """How many predictions stay as they were when the images are moved by ``amount``.

    ``amount`` is in pixels or degrees of the images used, ``paper_amount`` what it stands for in
    the paper (pixels of 224). ``share``, ``low`` and ``high`` are from 0 to 1, ``accuracy`` in
    percent.
    """

    network: str
    transform: str
    amount: float
    paper_amount: float
    share: float
    low: float
    high: float
    accuracy: float
    num_images: int


def photo(name: str, size: int) -> Photo:
    """The middle square of an image, ``size`` x ``size``: a file, or one of `SAMPLES`.

    Raises:
        ValueError: no such file, not an image, or a size below 1.
    """
    from PIL import Image

    if size < 1:
        raise ValueError(f"an image has at least 1 pixel a side, got {size}")
    picture = _sample(name) if name in SAMPLES else decode(read_file(Path(name)), name)
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box))


def _sample(name: str) -> Any:
    from PIL import Image
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(f"{name}.jpg"))


def point(text: str) -> tuple[float, float]:
    """``0.5,0.4`` as shares of width and height, from the left and from the top.

    Raises:
        ValueError: not two numbers from 0 to 1.
    """
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        x = y = -1.0
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"a point is two shares of the image such as 0.5,0.4 (x,y), got {text!r}")
    return x, y


def place(at: tuple[float, float], side: int, map_side: int, stride: int) -> tuple[int, int]:
    """Column and row of the map whose centre is nearest to ``at``.

    All convolutions of stride 2 here pad by one, so column ``c`` of a map is centred on pixel
    ``stride * c`` of the image.
    """
    column, row = (min(map_side - 1, round(share * (side - 1) / stride)) for share in at)
    return column, row


def radius(energy: NDArray[np.float64], center: tuple[float, float], share: float) -> float:
    """Smallest radius around ``center`` (x, y) whose disc holds ``share`` of ``energy``."""
    rows, columns = np.indices(energy.shape)
    distance = np.hypot(columns - center[0], rows - center[1]).ravel()
    order = np.argsort(distance, kind="stable")
    held = np.cumsum(energy.ravel()[order])
    enough = np.searchsorted(held, share * held[-1] * (1 - 1e-12))
    return float(distance[order][min(enough, len(order) - 1)])
