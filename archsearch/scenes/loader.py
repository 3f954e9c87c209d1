"""Batches of annotated images: viewed, padded to one size, and on the device."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from archsearch.heads.instances import Instances
from archsearch.scenes.data import split
from archsearch.scenes.scene import IGNORED, Objects, Pixels, Scene, Scenes, SceneSet
from archsearch.scenes.views import View
from archsearch.training.images import IMAGENET_MEAN, IMAGENET_STD
from archsearch.training.loader import decoding_pool, indices, mixed_seed, shifted

DIVISOR = 32
"""Sides of batches are multiples of the largest stride of the networks."""


@dataclass(frozen=True, eq=False)
class Target:
    """The annotations of one image of a batch.

    Args:
        size: height and width of the image; the rest of the batch's ``(H, W)`` is padding.
        instances: the objects, in pixels of the batch, with masks ``(M, H, W)``; None without.
        label_map: ``(H, W)`` int64, `IGNORED` in the padding; None without.
        original: the image as stored with its annotations, in evaluation; None in training.
    """

    size: tuple[int, int]
    instances: Instances | None
    label_map: Tensor | None
    original: Scene | None


SceneBatch = tuple[Tensor, list[Target]]
"""Images ``(N, 3, H, W)``, uint8 as read or normalized, and a target for each."""

Read = Callable[..., Iterator[SceneBatch]]
"""``read(batches, seed=None)`` yields batches of the given indices, in that order: augmented by
(seed, index), or without a seed as for evaluation."""

_Key = tuple[int, int | None]


@dataclass(frozen=True, eq=False)
class _Annotations:
    """A target on its way from another process: eight pixels of the masks in a byte."""

    size: tuple[int, int]
    objects: Objects | None
    packed_masks: Pixels | None
    label_map: Pixels | None
    original: Scene | None


_Collated = tuple[Tensor, list[_Annotations]]


def reader(scenes: Scenes, view: View, device: torch.device, in_files: bool) -> Read:
    """A function that reads ``scenes``; several processes decode those that are in files."""
    viewed, collate = _Viewed(scenes, view), _Collate(view.least)
    collated = decoding_pool(viewed, device, collate) if in_files else _in_process(viewed, collate)

    def read(batches: Sequence[Tensor], seed: int | None = None) -> Iterator[SceneBatch]:
        for pixels, annotations in collated([[(i, seed) for i in b.tolist()] for b in batches]):
            images = pixels.to(device, non_blocking=True)
            yield images, [_target(a, images.shape[-2:], device) for a in annotations]

    return read


def _in_process(
    viewed: "_Viewed", collate: "_Collate"
) -> Callable[[Sequence[list[_Key]]], Iterator[_Collated]]:
    return lambda batches: (collate([viewed[key] for key in keys]) for keys in batches)


@dataclass(frozen=True)
class _Viewed(Dataset[tuple[Scene, Scene | None]]):
    """Images as viewed, each with the image as stored if it is for evaluation."""

    scenes: Scenes
    view: View

    def __getitem__(self, key: _Key) -> tuple[Scene, Scene | None]:
        index, seed = key
        scene = self.scenes[index]
        if seed is None:
            return self.view(scene, None), scene
        return self.view(scene, np.random.default_rng(mixed_seed(seed, index))), None


@dataclass(frozen=True)
class _Collate:
    """Pads images to one size, of at least ``least`` a side."""

    least: int

    def __call__(self, views: list[tuple[Scene, Scene | None]]) -> _Collated:
        sides = [max(self.least, *(view.size[i] for view, _ in views)) for i in (0, 1)]
        height, width = (-(-side // DIVISOR) * DIVISOR for side in sides)
        pixels = np.zeros((len(views), height, width, 3), np.uint8)
        for padded, (view, _) in zip(pixels, views, strict=True):
            padded[: view.size[0], : view.size[1]] = view.pixels
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        return images, [_annotations(view, original) for view, original in views]


def _annotations(view: Scene, original: Scene | None) -> _Annotations:
    objects, packed = view.objects, None
    if objects is not None and objects.masks is not None:
        packed = np.packbits(objects.masks, axis=-1)
        objects = replace(objects, masks=None)
    return _Annotations(view.size, objects, packed, view.label_map, original)


def _target(annotations: _Annotations, shape: torch.Size, device: torch.device) -> Target:
    a, masks, instances, label_map = annotations, None, None, None
    if a.packed_masks is not None:
        unpacked = np.unpackbits(a.packed_masks, axis=-1, count=a.size[1])
        masks = torch.from_numpy(_padded(unpacked, shape, 0)).to(device).bool()
    if a.objects is not None:
        arrays = (a.objects.boxes, a.objects.labels, a.objects.crowd)
        boxes, labels, crowd = (torch.from_numpy(array).to(device) for array in arrays)
        instances = Instances(boxes, labels, masks, crowd)
    if a.label_map is not None:
        label_map = torch.from_numpy(_padded(a.label_map, shape, IGNORED)).to(device).long()
    return Target(a.size, instances, label_map, a.original)


def _padded(maps: Pixels, shape: torch.Size, value: int) -> Pixels:
    """Maps ``(..., h, w)`` with ``value`` below and at the right, up to ``shape``."""
    padded = np.full((*maps.shape[:-2], *shape), value, maps.dtype)
    padded[..., : maps.shape[-2], : maps.shape[-1]] = maps
    return padded


def one_image(scene: Scene, view: View, device: torch.device) -> SceneBatch:
    """The batch of one image for evaluation, with no more padding than `DIVISOR` needs."""
    pixels, annotations = _Collate(1)([(view(scene, None), scene)])
    return pixels.to(device), [_target(a, pixels.shape[-2:], device) for a in annotations]


def normalized(batch: SceneBatch) -> SceneBatch:
    """Float images of zero mean and unit variance, zero in the padding, from uint8 images."""
    pixels, targets = batch
    mean, std = (
        torch.tensor(values, device=pixels.device).view(1, 3, 1, 1)
        for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    images = (pixels.float() / 255 - mean) / std
    for image, target in zip(images, targets, strict=True):
        image[:, target.size[0] :] = 0
        image[:, :, target.size[1] :] = 0
    return images, targets


@dataclass
class SceneSplits:
    """The splits of a trial on annotated images; a batch is a `SceneBatch`."""

    train: Tensor
    val: Tensor
    test: Tensor
    reader: Read
    test_reader: Read

    def read(self, batches: Sequence[Tensor], seed: int | None = None) -> Iterator[SceneBatch]:
        return self.reader(batches, seed)

    def read_test(self, batches: Sequence[Tensor]) -> Iterator[SceneBatch]:
        return self.test_reader(batches)

    def augmented(self, batch: SceneBatch) -> SceneBatch:
        """The normalized batch: reading with a seed has augmented it."""
        return normalized(batch)

    def plain(self, batch: SceneBatch) -> SceneBatch:
        return normalized(batch)

    def parts(self, batch: SceneBatch, num: int) -> Sequence[SceneBatch]:
        images, targets = batch
        parts = images.tensor_split(num)
        ends = np.cumsum([len(part) for part in parts]).tolist()
        return [(part, targets[e - len(part) : e]) for part, e in zip(parts, ends, strict=True)]


@dataclass(frozen=True)
class _Both:
    """The images of two splits, one after the other, so that one pool of processes reads them."""

    first: Scenes
    second: Scenes

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: int) -> Scene:
        num = len(self.first)
        return self.first[index] if index < num else self.second[index - num]


def scene_splits(
    scenes: SceneSet, view: View, val_fraction: float, data_fraction: float, device: torch.device
) -> SceneSplits:
    """The splits of ``scenes`` for one recipe, seen through ``view``.

    Raises:
        DataError: there are too few images to split.
    """
    train, val = split(scenes, val_fraction, data_fraction)
    read = reader(_Both(scenes.train, scenes.test), view, device, scenes.in_files)
    return SceneSplits(
        train=indices(train),
        val=indices(val),
        test=indices(range(len(scenes.test))),
        reader=read,
        test_reader=shifted(read, len(scenes.train)),
    )
