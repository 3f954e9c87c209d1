"""The values that probes measure and reports draw, and the photographs. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsearch.training.decoding import decode
from archsearch.training.images import read_file

Photo = NDArray[np.uint8]
"""An image ``(H, W, 3)``."""

SAMPLES = ("china", "flower")
"""Photographs that scikit-learn contains."""


@dataclass(frozen=True)
class ReceptiveField:
    """The effective receptive field of one position of one stage's feature map.

    ``energy`` is ``(H, W)``: the squared gradient of the channels at the position, summed over
    channels and colors. ``center`` is the position in pixels of the image as (x, y). The discs
    around it with ``radius50`` and ``radius90`` (in pixels) hold 50 and 90 percent of the energy.
    """

    network: str
    stage: int
    center: tuple[float, float]
    energy: NDArray[np.float64]
    radius50: float
    radius90: float


@dataclass(frozen=True)
class SamplingLocations:
    """The sampling points of one block for one query position of its feature map.

    ``points`` is ``(G, P, 2)`` and ``modulation`` ``(G, P)``, for G groups of P points. ``center``
    is the query. Points are in pixels of the image as (x, y); (0, 0) is the center of the first
    pixel.
    """

    stage: int
    block: int
    center: tuple[float, float]
    points: NDArray[np.float64]
    modulation: NDArray[np.float64]


@dataclass(frozen=True)
class Consistency:
    """Prediction consistency: the share of predictions that stay when images are transformed.

    ``amount`` is in pixels of the images used or in degrees; ``paper_amount`` is the same in the
    paper's pixels (of images with side 224). ``share`` and its interval ``low`` to ``high`` are
    from 0 to 1, ``accuracy`` is in percent.
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
    """Return the central square of an image file or of one of `SAMPLES`, resized to ``size``.

    Raises:
        ValueError: if the file does not exist or is not an image, or for a size below 1.
    """
    from PIL import Image

    if size < 1:
        raise ValueError(f"the size of an image must be at least 1 pixel, got {size}")
    picture = _sample(name) if name in SAMPLES else decode(read_file(Path(name)), name)
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box))


def _sample(name: str) -> Any:
    from PIL import Image
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(f"{name}.jpg"))


def parse_point(text: str) -> tuple[float, float]:
    """Return ``0.5,0.4`` as fractions of width and height, from the left and from the top.

    Raises:
        ValueError: if these are not two numbers from 0 to 1.
    """
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        x = y = -1.0
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"a point must be two fractions x,y such as 0.5,0.4, got {text!r}")
    return x, y


def map_position(at: tuple[float, float], side: int, map_side: int, stride: int) -> tuple[int, int]:
    """Return column and row of the feature-map position whose center is nearest to ``at``.

    ``at`` is (x, y) as fractions of the image. All convolutions of stride 2 here pad by one, so
    column ``c`` of a map is centered on pixel ``stride * c`` of the image.
    """
    column, row = (min(map_side - 1, round(part * (side - 1) / stride)) for part in at)
    return column, row


def radius(energy: NDArray[np.float64], center: tuple[float, float], share: float) -> float:
    """Return the smallest radius around ``center`` (x, y) whose disc holds ``share`` of energy."""
    rows, columns = np.indices(energy.shape)
    distance = np.hypot(columns - center[0], rows - center[1]).ravel()
    order = np.argsort(distance, kind="stable")
    cumulative = np.cumsum(energy.ravel()[order])
    index = np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-12))
    return float(distance[order][min(index, len(order) - 1)])
