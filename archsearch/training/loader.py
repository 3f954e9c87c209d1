"""Batches of a split, as uint8 on the device: from one tensor there, or decoded by workers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from archsearch.training.images import MIN_CROP_AREA, DataError, Images, decode, read_file
from archsearch.training.machine import cores
from archsearch.training.signals import leave_signals_to_parent, signals_held_back

Labelled = tuple[Tensor, Tensor]
"""Images ``(N, C, H, W)`` uint8 and labels ``(N,)`` int64, both on the device."""

Read = Callable[..., Iterator[Labelled]]
"""``read(batches, crop_seed=None)``: batches of the given indices, in that order. With a seed,
images that are decoded for it are cut at random; without, at the centre."""

MAX_WORKERS = 16
EVAL_CROP = 0.875
"""Share of the shorter side that the centre crop of a photograph keeps (224 of 256)."""


def epoch_batches(indices: Tensor, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """The order of one epoch, decided by (seed, epoch), in `even_parts`."""
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    return even_parts(indices[torch.randperm(len(indices), generator=generator)], batch_size)


def even_parts(indices: Tensor, most: int) -> list[Tensor]:
    """``indices`` in `num_parts` that differ by one; no parts of none."""
    return list(indices.tensor_split(num_parts(len(indices), most))) if len(indices) else []


def num_parts(num_images: int, most: int) -> int:
    """Into how many even parts of at most ``most`` images to take them, of two at least.

    BatchNorm cannot take a batch of one where the map is small, so an odd one is taken along: of
    at most two, five images make parts of 3 and 2.
    """
    return max(1, min(-(-num_images // most), num_images // 2))


def indices(values: Sequence[int] | NDArray[np.intp]) -> Tensor:
    """Indices of images as a tensor."""
    return torch.as_tensor(np.asarray(values, dtype=np.intp))


def mixed_seed(*numbers: int) -> int:
    """One seed of several numbers, so that neighbours share nothing."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def reader(images: Images, image_size: int, device: torch.device) -> Read:
    """How to read ``images``; those on disk come out square, of ``image_size``."""
    if images.pixels is not None:
        return _from_memory(images, device)
    return _from_files(images, image_size, device)


def _from_memory(images: Images, device: torch.device) -> Read:
    assert images.pixels is not None
    pixels = torch.from_numpy(images.pixels).to(device)
    labels = torch.from_numpy(images.labels).to(device)

    def read(batches: Sequence[Tensor], crop_seed: int | None = None) -> Iterator[Labelled]:  # noqa: ARG001
        for indices in batches:
            here = indices.to(device)
            yield pixels[here], labels[here]

    return read


def _from_files(images: Images, image_size: int, device: torch.device) -> Read:
    """One pool of decoding processes for all epochs: which images, and how, is asked by key."""
    keys: list[list[_Key]] = []
    loader: DataLoader[Any] = DataLoader(
        _Decoded(images, image_size),
        batch_sampler=keys,
        num_workers=min(MAX_WORKERS, cores()),
        pin_memory=device.type == "cuda",
        persistent_workers=True,
        multiprocessing_context="spawn",  # fork after threads were started may hang
        worker_init_fn=_leave_signals,
    )

    def read(batches: Sequence[Tensor], crop_seed: int | None = None) -> Iterator[Labelled]:
        keys[:] = [[(i, crop_seed) for i in batch.tolist()] for batch in batches]
        with signals_held_back():  # the first time, this starts the processes
            found = iter(loader)
        try:
            for pixels, labels in found:
                yield pixels.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        except DataError as error:
            raise _in_its_own_words(error) from None

    return read


def _leave_signals(_: int) -> None:
    """The training still needs images until it has saved."""
    leave_signals_to_parent()


def _in_its_own_words(error: DataError) -> DataError:
    """The error as a decoding process raised it: torch puts a traceback before its words."""
    name = f"{DataError.__module__}.{DataError.__qualname__}: "
    return DataError(str(error).rpartition(name)[2].strip())


_Key = tuple[int, int | None]
"""An image's index and the seed of this epoch's crops; without one, the centre is cut out."""


class _Decoded(Dataset[tuple[Tensor, int]]):
    """Photographs, decoded and cut to ``size`` x ``size``."""

    def __init__(self, images: Images, size: int) -> None:
        self.files, self.labels, self.size = images.files, images.labels, size

    def __getitem__(self, key: "_Key") -> tuple[Tensor, int]:
        from PIL import Image

        index, seed = key
        photo = decode(read_file(self.files[index]), str(self.files[index]))
        if seed is None:
            box = center_box(photo.width, photo.height)
        else:
            box = random_box(photo.width, photo.height, mixed_seed(seed, index))
        cut = photo.resize((self.size, self.size), Image.Resampling.BICUBIC, box, reducing_gap=2.0)
        pixels = torch.from_numpy(np.asarray(cut).copy()).permute(2, 0, 1)
        return pixels.contiguous(), int(self.labels[index])


Box = tuple[float, float, float, float]


def center_box(width: int, height: int) -> Box:
    """The middle square, `EVAL_CROP` of the shorter side."""
    side = EVAL_CROP * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(width: int, height: int, seed: int) -> Box:
    """A random part of 8 to 100% of the area, with sides 3:4 to 4:3 (the Inception crop)."""
    random = np.random.default_rng(seed)
    for _ in range(10):
        area = width * height * random.uniform(MIN_CROP_AREA, 1)
        ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = np.sqrt(area * ratio), np.sqrt(area / ratio)
        if w <= width and h <= height:
            left, top = random.uniform(0, width - w), random.uniform(0, height - h)
            return float(left), float(top), float(left + w), float(top + h)
    return center_box(width, height)
