"""Masks from COCO's two encodings: polygons, and run lengths. Does not import torch.

Both equal pycocotools' masks to the pixel, so training does not need it.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from archsearch.scenes.scene import Masks

FINER = 5
"""COCO's tools sample the edges of a polygon on a grid that is this much finer than the pixels."""

FIRST, BITS = 48, 5
"""Compressed run lengths: the character of the number 0, and the bits of a number in each one."""


class RunLengths(msgspec.Struct):
    """Lengths of runs of pixels outside and inside, column by column, as a list or compressed.

    ``size`` is height and width.
    """

    size: tuple[int, int]
    counts: list[int] | str


Segmentation = list[list[float]] | RunLengths
"""Polygons as ``[x1, y1, x2, y2, ...]``, or run lengths."""

_DECODER: msgspec.json.Decoder[Segmentation] = msgspec.json.Decoder(Segmentation)


def parsed(segmentation: bytes) -> Segmentation:
    """The segmentation in JSON.

    Raises:
        msgspec.MsgspecError: it is neither polygons nor run lengths.
    """
    return _DECODER.decode(segmentation)


def problem(segmentation: Segmentation, height: int, width: int) -> str | None:
    """What is wrong with the segmentation of an object in an image of this size."""
    if isinstance(segmentation, RunLengths):
        return _run_length_problem(segmentation, height, width)
    for polygon in segmentation:
        if len(polygon) % 2 or len(polygon) < 6:
            return f"a polygon has {len(polygon)} numbers: wanted x and y of three or more points"
        far = [v for v in polygon[::2] if not -width <= v <= 2 * width]
        far += [v for v in polygon[1::2] if not -height <= v <= 2 * height]
        if far:
            return f"a polygon is far outside the image: it has the coordinate {far[0]:g}"
    return None


def _run_length_problem(encoded: RunLengths, height: int, width: int) -> str | None:
    if encoded.size != (height, width):
        return f"run lengths are of an image of size {list(encoded.size)}, not {[height, width]}"
    try:
        counts = _counts(encoded)
    except ValueError:
        return "compressed run lengths are cut or have other characters"
    if (counts < 0).any() or counts.sum() != height * width:
        return f"run lengths cover {counts.sum()} pixels, the image has {height * width}"
    return None


def mask(segmentation: Segmentation, height: int, width: int) -> Masks:
    """The mask ``(H, W)``: the union of polygons, or run lengths."""
    if isinstance(segmentation, RunLengths):
        counts = _counts(segmentation)
        return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T
    covered = np.zeros((height, width), bool)
    for polygon in segmentation:
        _fill(covered, np.array(polygon).reshape(-1, 2))
    return covered


def _counts(encoded: RunLengths) -> NDArray[np.int64]:
    """The lengths of runs.

    Raises:
        ValueError: compressed lengths are cut or have other characters.
    """
    if isinstance(encoded.counts, str):
        return _decompressed(encoded.counts)
    return np.array(encoded.counts, np.int64)


def _decompressed(text: str) -> NDArray[np.int64]:
    """Run lengths from text: five bits and a sign for "more follows" in each character.

    From the fourth on, each number is the difference to the one before the last.
    """
    values = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - FIRST
    if not len(values) or values.min() < 0 or values.max() >= 64 or values[-1] & 32:
        raise ValueError("not compressed run lengths")
    first = np.flatnonzero(np.append(32, values[:-1]) & 32 == 0)
    first = np.append(0, first)
    place = BITS * (np.arange(len(values)) - np.repeat(first, np.diff(first, append=len(values))))
    numbers = np.add.reduceat((values & 31) << place, first)
    last = np.append(first[1:], len(values)) - 1
    numbers -= np.where(values[last] & 16, 1 << (place[last] + BITS), 0)
    for start in (1, 2):
        numbers[start::2] = np.cumsum(numbers[start::2])
    return numbers


def _fill(covered: Masks, polygon: NDArray[np.float64]) -> None:
    """Add the inside of a polygon ``(K, 2)`` of x and y to a mask.

    A boundary that crosses the center of a column changes inside and outside from its row on.
    """
    height, width = covered.shape
    x, y = _boundary((FINER * polygon + 0.5).astype(np.int64)).T
    crossing = np.maximum(x[1:], x[:-1]) - 1
    in_column = (x[1:] != x[:-1]) & (crossing % FINER == FINER // 2)
    columns = crossing[in_column] // FINER
    rows = np.minimum(y[1:], y[:-1])[in_column]
    rows = np.clip(np.ceil((rows + 0.5) / FINER - 0.5), 0, height).astype(np.int64)
    inside = (columns >= 0) & (columns < width)
    if not inside.any():
        return
    first, last = columns[inside].min(), columns[inside].max() + 1
    changes = (columns[inside] - first) * height + rows[inside]
    num = np.bincount(changes, minlength=(last - first) * height + 1)[:-1]
    covered[:, first:last] |= (np.cumsum(num) % 2 == 1).reshape(-1, height).T


def _boundary(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Points ``(P, 2)`` on the closed line through corners ``(K, 2)``: one for each step of the
    longer side of each edge, from corner to corner.

    The shorter side is rounded as seen from the end with the smaller coordinate.
    """
    start, end = corners, np.roll(corners, -1, axis=0)
    sides = abs(end - start)
    longer = np.where(sides[:, 0] >= sides[:, 1], 0, 1)
    steps, edges = sides.max(1), np.arange(len(corners))
    swapped = start[edges, longer] > end[edges, longer]
    low = np.where(swapped[:, None], end, start)
    slopes = (np.where(swapped[:, None], start, end) - low) / np.maximum(steps, 1)[:, None]
    edge = np.repeat(edges, steps + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    step = np.where(swapped[edge], steps[edge] - step, step)[:, None]
    points: NDArray[np.int64] = (low[edge] + slopes[edge] * step + 0.5).astype(np.int64)
    along = longer[edge]
    points[np.arange(len(edge)), along] = low[edge, along] + step[:, 0]
    return points
