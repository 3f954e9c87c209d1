"""Batches of a split as uint8 on the device: from a tensor there, or decoded by processes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from archsearch.training.decoding import decode
from archsearch.training.images import EVAL_CROP, MIN_CROP_AREA, DataError, Images, read_file
from archsearch.training.machine import cores
from archsearch.training.signals import leave_signals_to_parent, signals_blocked

T = TypeVar("T")

LabeledBatch = tuple[Tensor, Tensor]
"""Images ``(N, C, H, W)`` uint8 and labels ``(N,)`` int64, both on the device."""

Read = Callable[..., Iterator[LabeledBatch]]
"""``read(batches, crop_seed=None)`` yields batches of the given indices, in that order.

Images that are decoded from files are cropped at random with a seed, at the center without one.
"""

MAX_WORKERS = 16


def epoch_batches(indices: Tensor, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """The batches of one epoch, as `even_parts` in an order that (seed, epoch) determines."""
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    return even_parts(indices[torch.randperm(len(indices), generator=generator)], batch_size)


def even_parts(indices: Tensor, most: int) -> list[Tensor]:
    """``indices`` in `num_parts` parts whose sizes differ by at most one; no parts of none."""
    return list(indices.tensor_split(num_parts(len(indices), most))) if len(indices) else []


def num_parts(num_images: int, most: int) -> int:
    """The number of even parts of at most ``most`` and at least two images.

    BatchNorm cannot take a batch of one image where the map is small, so a part may exceed
    ``most`` by one: at most two, five images make parts of 3 and 2.
    """
    return max(1, min(-(-num_images // most), num_images // 2))


def indices(values: Sequence[int] | NDArray[np.intp]) -> Tensor:
    """Indices of images as a tensor."""
    return torch.as_tensor(np.asarray(values, dtype=np.intp))


def mixed_seed(*numbers: int) -> int:
    """One seed from several numbers; neighboring numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def reader(images: Images, image_size: int, device: torch.device) -> Read:
    """A function that reads ``images``; those in files become squares of ``image_size``."""
    if images.pixels is not None:
        return _memory_reader(images, device)
    return _file_reader(images, image_size, device)


def readers(
    train: Images, test: Images, image_size: int, device: torch.device
) -> tuple[Read, Read]:
    """A `reader` of each split; those in files share their processes, which start in seconds."""
    if train.pixels is not None:
        return reader(train, image_size, device), reader(test, image_size, device)
    labels = np.concatenate([train.labels, test.labels])
    read = reader(Images(None, train.files + test.files, labels), image_size, device)
    return read, shifted(read, len(train))


def shifted(read: Callable[..., Iterator[T]], first: int) -> Callable[..., Iterator[T]]:
    """``read`` with the indices of images that begin at ``first``."""

    def read_shifted(batches: Sequence[Tensor], seed: int | None = None) -> Iterator[T]:
        return read([batch + first for batch in batches], seed)

    return read_shifted


def _memory_reader(images: Images, device: torch.device) -> Read:
    assert images.pixels is not None
    pixels = torch.from_numpy(images.pixels).to(device)
    labels = torch.from_numpy(images.labels).to(device)

    def read(batches: Sequence[Tensor], crop_seed: int | None = None) -> Iterator[LabeledBatch]:  # noqa: ARG001
        for batch in batches:
            on_device = batch.to(device)
            yield pixels[on_device], labels[on_device]

    return read


def _file_reader(images: Images, image_size: int, device: torch.device) -> Read:
    """A reader whose keys hold the image that a process decodes and how it is cropped."""
    decoded = decoding_pool(_Photos(images, image_size), device)

    def read(batches: Sequence[Tensor], crop_seed: int | None = None) -> Iterator[LabeledBatch]:
        keys = [[(i, crop_seed) for i in batch.tolist()] for batch in batches]
        for pixels, labels in decoded(keys):
            yield pixels.to(device, non_blocking=True), labels.to(device, non_blocking=True)

    return read


def decoding_pool(
    dataset: Dataset[Any], device: torch.device, collate: Callable[..., Any] | None = None
) -> Callable[[Sequence[list[Any]]], Iterator[Any]]:
    """A function that yields a batch for each list of keys of ``dataset``.

    One pool of processes decodes the batches of all calls; ``collate`` makes a batch of a list.
    """
    batches: list[list[Any]] = []
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=min(MAX_WORKERS, cores()),
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        persistent_workers=True,
        multiprocessing_context="spawn",  # a fork may hang once threads have started
        worker_init_fn=_init_decoder,
    )

    def decoded(keys: Sequence[list[Any]]) -> Iterator[Any]:
        batches[:] = keys
        with signals_blocked():  # the first call starts the processes
            iterator = iter(loader)
        try:
            yield from iterator
        except DataError as error:
            raise _without_traceback(error) from None

    return decoded


def _init_decoder(_: int) -> None:
    """Leave signals to the training process, which needs images until it has saved."""
    leave_signals_to_parent()


def _without_traceback(error: DataError) -> DataError:
    """The error as the decoding process raised it; torch prefixes its message with a traceback."""
    name = f"{DataError.__module__}.{DataError.__qualname__}: "
    return DataError(str(error).rpartition(name)[2].strip())


_Key = tuple[int, int | None]
"""Index of an image, and the seed of this epoch's random crops, or None for center crops."""


class _Photos(Dataset[tuple[Tensor, int]]):
    """Photographs, decoded and cropped to ``size`` x ``size``."""

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
        crop = photo.resize((self.size, self.size), Image.Resampling.BICUBIC, box, reducing_gap=2.0)
        pixels = torch.from_numpy(np.asarray(crop).copy()).permute(2, 0, 1)
        return pixels.contiguous(), int(self.labels[index])


Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


def center_box(width: int, height: int) -> Box:
    """The center square, `EVAL_CROP` of the shorter side."""
    side = EVAL_CROP * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(width: int, height: int, seed: int) -> Box:
    """A random box of 8 to 100% of the area, with sides 3:4 to 4:3 (the Inception crop).

    If ten draws do not fit inside the image, it is the center square.
    """
    random = np.random.default_rng(seed)
    for _ in range(10):
        area = width * height * random.uniform(MIN_CROP_AREA, 1)
        ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = np.sqrt(area * ratio), np.sqrt(area / ratio)
        if w <= width and h <= height:
            left, top = random.uniform(0, width - w), random.uniform(0, height - h)
            return float(left), float(top), float(left + w), float(top + h)
    return center_box(width, height)
