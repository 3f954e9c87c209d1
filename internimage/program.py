"""A network as a graph of torch operators, by `torch.export`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from internimage.description import Preprocessing

DEFAULT_SIZE = 224
"""Pixels per side, for a network that does not know the size of its images."""

TRACED_SIDE = 64
"""Pixels: with less, the last map has a side of one, which torch.export takes for fixed."""


def export_program(
    model: nn.Module,
    image_size: int | None = None,
    *,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
) -> ExportedProgram:
    """The program of ``model`` in evaluation mode, for images ``(N, 3, S, S)``.

    Args:
        model: a network of images. Its mode and weights stay as they are.
        image_size: S in pixels; by default the size that the network knows, else 224.
        dynamic_batch: the program takes any N; else one image.
        dynamic_size: the program takes images of any height and width, of more than 32 pixels.

    Raises:
        ValueError: ``image_size`` is not a positive whole number.
    """
    side = known_size(model) if image_size is None else image_size
    if not isinstance(side, int) or side < 1:
        raise ValueError(f"image_size: wanted a whole number of pixels, 1 or more, got {side!r}")
    sizes: dict[int, Any] = {0: Dim("batch")} if dynamic_batch else {}
    if dynamic_size:
        side = max(side, TRACED_SIDE)
        sizes |= {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    # A size of one is taken for fixed, so a dynamic batch is traced with two images.
    shape = (2 if dynamic_batch else 1, 3, side, side)
    images = torch.zeros(shape, device=next(model.parameters()).device)
    with _evaluated(model), torch.no_grad():
        return torch.export.export(model, (images,), dynamic_shapes=(sizes,), strict=False)


def known_size(model: nn.Module) -> int:
    """The side of the images that a network was trained on, or 224."""
    preprocessing = getattr(model, "preprocessing", None)
    return preprocessing.image_size if isinstance(preprocessing, Preprocessing) else DEFAULT_SIZE


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
