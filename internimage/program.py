"""A network as a graph of torch operators, by `torch.export`."""

import copy
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

import cuda_ops.ops  # noqa: F401  registers the operator
from internimage.description import description_of, to_metadata
from internimage.in_chans import RGB
from internimage.lowering import grid_sample

ImageSize = int | tuple[int, int]
"""Side of a square, or height and width, in pixels."""

DEFAULT_SIZE = 224
"""Pixels per side, for a network that does not know the size of its images."""

TRACED_SIDE = 64
"""Pixels: with less, the last map has a side of one, which torch.export takes for fixed."""


def export_program(
    model: nn.Module,
    image_size: ImageSize | None = None,
    *,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
) -> ExportedProgram:
    """The program of ``model`` in evaluation mode, for images ``(N, C, S, S)``.

    C is 3, or what the network has as ``in_chans``.

    Args:
        model: a network of images. Its mode and weights stay as they are.
        image_size: S, or height and width, in pixels; by default what the network knows, else 224.
        dynamic_batch: the program takes any N; else one image.
        dynamic_size: the program takes images of any height and width, of more than 32 pixels.

    Raises:
        ValueError: ``image_size`` is not one or two positive whole numbers.
    """
    height, width = _sides(known_size(model) if image_size is None else image_size)
    sizes: dict[int, Any] = {0: Dim("batch")} if dynamic_batch else {}
    if dynamic_size:
        height, width = max(height, TRACED_SIDE), max(width, TRACED_SIDE)
        sizes |= {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    # A size of one is taken for fixed, so a dynamic batch is traced with two images.
    shape = (2 if dynamic_batch else 1, getattr(model, "in_chans", RGB), height, width)
    images = torch.zeros(shape, device=next(model.parameters()).device)
    with _evaluated(model), torch.no_grad(), exporting():
        return torch.export.export(model, (images,), dynamic_shapes=(sizes,), strict=False)


def _sides(image_size: Any) -> tuple[int, int]:
    sides = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    if len(sides) != 2 or any(type(side) is not int or side < 1 for side in sides):
        wanted = "a whole number of pixels, 1 or more, or height and width"
        raise ValueError(f"image_size: wanted {wanted}, got {image_size!r}")
    return cast(tuple[int, int], sides)


@contextmanager
def exporting() -> Iterator[None]:
    """Ignores a warning that torch 2.13 gives of its own exporter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
        yield


def write_program(
    model: nn.Module, path: str | os.PathLike[str], *, decomposed: bool = True, **options: Any
) -> None:
    """Write the program of ``model`` to a ``.pt2`` file, with its metadata in ``metadata.json``.

    Args:
        model: as for `export_program`, which takes ``options``.
        path: the file, for `torch.export.load`.
        decomposed: DCNv3 by torch's ``grid_sample``, so that the file runs without this package;
            else as the operator, which ``import cuda_ops.ops`` registers.
    """
    # torch.export.save warns of weights that are stored channels-last.
    stored = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    program = export_program(stored, **options)
    if decomposed:
        program = by_grid_sample(program)
    known = {key: json.loads(text) for key, text in to_metadata(description_of(model)).items()}
    metadata = {"metadata.json": json.dumps(known)}
    partial = Path(f"{os.fspath(path)}.partial")
    with partial.open("wb") as file:  # a path would have to end with .pt2
        torch.export.save(program, file, extra_files=metadata)
    partial.replace(path)


def by_grid_sample(program: ExportedProgram) -> ExportedProgram:
    """The program with DCNv3 as torch's ``grid_sample``."""
    dcnv3: Any = torch.ops.archsearch.dcnv3.default
    with exporting():
        decomposed: ExportedProgram = program.run_decompositions({dcnv3: grid_sample})
    return decomposed


def known_size(model: nn.Module) -> int:
    """The side of the images that a network was trained on, or 224."""
    preprocessing = description_of(model).preprocessing
    return DEFAULT_SIZE if preprocessing is None else preprocessing.image_size


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; every module returns to its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
