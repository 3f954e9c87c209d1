"""What a network sees of an image, in training and in evaluation. Does not import torch.

A view is called with a scene and a random generator in training, or None in evaluation.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from archsearch.scenes.scene import IGNORED, Pixels, Scene
from archsearch.scenes.transforms import cropped, distorted, fitted, flipped, resized

MULTI_SCALE = tuple(range(480, 801, 32))
"""Shorter sides of multi-scale training: the paper's 480 to 800, in the steps in general use."""

FIRST_SIZES, FIRST_LONGER = (400, 500, 600), 4200
CROP_SIDES = (384, 600)
"""Shorter sides before a crop, the limit of the longer side, and sides of the crop: the
augmentation in general use with multi-scale training."""

RATIOS = (0.5, 2.0)
"""Least and largest resizing of an image before a square is cut out of it."""

CROP_TRIES = 10
"""Crops that are drawn until one is not mostly of a single class."""

Random = np.random.Generator


class View(Protocol):
    """A function of a scene, and the least height and width of a batch of its results."""

    @property
    def least(self) -> int: ...
    def __call__(self, scene: Scene, random: Random | None) -> Scene: ...


@dataclass(frozen=True)
class DetectionView:
    """The image with a given shorter side, whole in evaluation.

    In training, the shorter side is one of ``shorter`` and half of the images are mirrored. With
    ``crop``, half of the images are first resized, cropped at random, and resized again; with
    ``distort``, colors are distorted. In evaluation, the shorter side is ``test_shorter``.
    The longer side is never more than ``longer``. Nothing is mirrored without ``flip``, as for
    digits.
    """

    shorter: tuple[int, ...] = (800,)
    longer: int = 1333
    test_shorter: int = 800
    crop: bool = False
    distort: bool = False
    flip: bool = True

    least = 1

    def __call__(self, scene: Scene, random: Random | None) -> Scene:
        if random is None:
            return _fit(scene, self.test_shorter, self.longer)
        if self.crop and random.random() < 0.5:
            scene = _any_crop(_fit(scene, int(random.choice(FIRST_SIZES)), FIRST_LONGER), random)
        scene = _fit(scene, int(random.choice(self.shorter)), self.longer)
        return _colors_and_flip(scene, random, self.distort, self.flip)


def _fit(scene: Scene, shorter: int, longer: int) -> Scene:
    return resized(scene, *fitted(*scene.size, shorter, longer))


def _any_crop(scene: Scene, random: Random) -> Scene:
    height, width = (
        int(random.integers(min(side, CROP_SIDES[0]), min(side, CROP_SIDES[1]) + 1))
        for side in scene.size
    )
    return cropped(scene, *_corner(scene, height, width, random), height, width)


def _corner(scene: Scene, height: int, width: int, random: Random) -> tuple[int, int]:
    """Top and left of a random window inside the scene."""
    rows, columns = scene.size[0] - height, scene.size[1] - width
    return int(random.integers(rows + 1)), int(random.integers(columns + 1))


def _colors_and_flip(scene: Scene, random: Random, distort: bool, flip: bool) -> Scene:
    if distort:
        scene = replace(scene, pixels=distorted(scene.pixels, random))
    return flipped(scene) if flip and random.random() < 0.5 else scene


@dataclass(frozen=True)
class SegmentationView:
    """A random square of the image in training, the whole image in evaluation.

    In training, the image is resized to ``ratios`` times the size that has the shorter side
    ``shorter`` (and the longer side ``longer`` at most), and a square of side ``crop`` is cut out,
    drawn again if one class fills more than ``max_share`` of its annotated pixels. A smaller image
    is padded. Half of the squares are mirrored with ``flip``, and colors are distorted with
    ``distort``.
    """

    crop: int = 512
    shorter: int = 512
    longer: int = 2048
    ratios: tuple[float, float] = RATIOS
    max_share: float = 0.75
    distort: bool = True
    flip: bool = True

    @property
    def least(self) -> int:
        return self.crop

    def scaled(self, ratio: float) -> "SegmentationView":
        """The view at another scale, for multi-scale evaluation."""
        shorter, longer = (max(1, round(side * ratio)) for side in (self.shorter, self.longer))
        return replace(self, shorter=shorter, longer=longer)

    def __call__(self, scene: Scene, random: Random | None) -> Scene:
        if random is None:
            return _fit(scene, self.shorter, self.longer)
        scene = self.scaled(random.uniform(*self.ratios))(scene, None)
        height, width = (min(self.crop, side) for side in scene.size)
        for _ in range(CROP_TRIES):
            top, left = _corner(scene, height, width, random)
            square = cropped(scene, top, left, height, width)
            if square.label_map is None or _largest_share(square.label_map) <= self.max_share:
                break
        return _colors_and_flip(square, random, self.distort, self.flip)


def _largest_share(label_map: Pixels) -> float:
    """The share of the most frequent class in the annotated pixels; 1 without any."""
    counts = np.bincount(label_map.ravel(), minlength=256)
    counts[IGNORED] = 0
    return float(counts.max() / counts.sum()) if counts.sum() else 1.0
