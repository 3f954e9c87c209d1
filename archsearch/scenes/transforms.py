"""Transforms of an image together with its boxes, masks and label map. Does not import torch.

Boxes follow the edges of pixels: a box from 0 to the width covers the image. Objects of which
nothing is left are dropped, crowd regions too.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsearch.scenes.scene import Objects, Pixels, Scene, tight_boxes

Boxes = NDArray[np.float32]
Change = Callable[[Boxes], Boxes]

MIN_SIDE = 1.0
"""Objects without a mask are dropped if a crop leaves less of a side of their box, in pixels."""


def fitted(height: int, width: int, shorter: int, longer: int) -> tuple[int, int]:
    """Height and width, scaled so that the shorter side is ``shorter``, or the longer ``longer`` if
    that is smaller."""
    scale = min(shorter / min(height, width), longer / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resized(scene: Scene, height: int, width: int) -> Scene:
    """The scene at another size; pixels are interpolated, masks and label maps take the nearest."""
    from PIL import Image

    if scene.size == (height, width):
        return scene
    picture = Image.fromarray(scene.pixels).resize((width, height), Image.Resampling.BILINEAR)
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)  # by the centers of pixels
        for old, new in zip(scene.size, (height, width), strict=True)
    )
    scale = np.array([width / scene.size[1], height / scene.size[0]] * 2, np.float32)
    return Scene(
        np.asarray(picture),
        _changed(scene.objects, lambda boxes: boxes * scale, rows, columns),
        None if scene.label_map is None else scene.label_map[rows][:, columns],
    )


def _changed(objects: Objects | None, change: Change, rows: Any, columns: Any) -> Objects | None:
    """The objects with changed boxes, and these rows and columns of their masks."""
    if objects is None:
        return None
    masks = None if objects.masks is None else objects.masks[:, rows][:, :, columns]
    return replace(objects, boxes=change(objects.boxes), masks=masks)


def flipped(scene: Scene) -> Scene:
    """The scene, mirrored left to right."""
    mirror = slice(None, None, -1)

    def change(boxes: Boxes) -> Boxes:
        left, right = scene.size[1] - boxes[:, 2], scene.size[1] - boxes[:, 0]
        return np.stack([left, boxes[:, 1], right, boxes[:, 3]], axis=1)

    label_map = None if scene.label_map is None else scene.label_map[:, mirror]
    objects = _changed(scene.objects, change, slice(None), mirror)
    return Scene(scene.pixels[:, mirror], objects, label_map)


def cropped(scene: Scene, top: int, left: int, height: int, width: int) -> Scene:
    """The part of the scene in this window; boxes of objects that it cuts are tight again."""
    rows, columns = slice(top, top + height), slice(left, left + width)
    label_map = None if scene.label_map is None else scene.label_map[rows, columns]
    corner = np.array([left, top] * 2, np.float32)
    moved = _changed(scene.objects, lambda boxes: boxes - corner, rows, columns)
    objects = None if moved is None else _cut(moved, height, width)
    return Scene(scene.pixels[rows, columns], objects, label_map)


def _cut(objects: Objects, height: int, width: int) -> Objects:
    """The objects inside an image of this size, without those of which nothing is inside."""
    boxes = np.clip(objects.boxes, 0, np.array([width, height] * 2, np.float32))
    cut = (boxes != objects.boxes).any(1)
    if objects.masks is None:
        left = (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(1)
    else:
        boxes[cut] = tight_boxes(objects.masks[cut])
        left = objects.masks.any((1, 2))
    return replace(objects, boxes=boxes)[~cut | left]


def distorted(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Pixels with random brightness, contrast, saturation and hue, each in half of the images.

    The strengths are those in general use for detection and segmentation: brightness within 32 of
    255, contrast and saturation times 0.5 to 1.5, hue within 18 degrees. Contrast comes before or
    after the colors.
    """
    values, contrast_first = pixels.astype(np.float32), random.random() < 0.5
    if random.random() < 0.5:
        values = np.clip(values + random.uniform(-32, 32), 0, 255)
    contrast = random.uniform(0.5, 1.5) if random.random() < 0.5 else 1.0
    if contrast_first:
        values = np.clip(values * contrast, 0, 255)
    if random.random() < 0.5:
        brightest = values.max(-1, keepdims=True)  # HSV's value, which saturation leaves as it is
        values = np.clip(brightest - random.uniform(0.5, 1.5) * (brightest - values), 0, 255)
    if random.random() < 0.5:
        values = _turned_hue(values, random.uniform(-18, 18))
    if not contrast_first:
        values = np.clip(values * contrast, 0, 255)
    return np.rint(values).astype(np.uint8)


def _turned_hue(values: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    from PIL import Image

    picture = Image.fromarray(np.rint(values).astype(np.uint8)).convert("HSV")
    hsv = np.array(picture)
    hsv[..., 0] += np.uint8(round(degrees * 256 / 360) % 256)  # wraps around
    turned = Image.frombytes("HSV", picture.size, hsv.tobytes()).convert("RGB")
    return np.asarray(turned).astype(np.float32)
