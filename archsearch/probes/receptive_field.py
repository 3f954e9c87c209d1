"""Which part of the image does a place of each stage answer to, before and after training?"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from archsearch.study import About

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from archsearch.probes.networks import Network
    from archsearch.probes.photos import Photo, ReceptiveField

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Supplement C.3 (Fig. B)",
    command="archsearch receptive-field RUN:best",
    small="one photograph: seconds on a CPU, and a minute where the plain CNN is trained too",
    full="S or B with the released weights at 224 x 224, beside ResNet-101",
)

PROJECTIONS = 8
Maps = Callable[["Tensor"], Sequence["Tensor"]]
"""Stage maps, NCHW, of an image."""


def receptive_fields(
    label: str,
    maps_of: Maps,
    image: "Tensor",
    at: tuple[float, float],
    projections: int = PROJECTIONS,
    seed: int = 0,
) -> "tuple[ReceptiveField, ...]":
    """The receptive field of the place nearest to ``at``, in every stage.

    The energy of a pixel is the sum of the squared derivatives of all channels, estimated without
    bias from ``projections`` random sums of the channels with signs. The plain sum of the channels,
    which the paper's text suggests, is no measure here: after a LayerNorm it is constant, and its
    gradient zero.

    Args:
        maps_of: gives the stage maps of an image.
        image: ``(1, 3, S, S)``, normalised.
        at: (x, y) as shares of the image.
    """
    import torch

    from archsearch.probes.photos import ReceptiveField, place, radius

    x = image.clone().requires_grad_()
    side, fields = image.shape[-1], []
    random = torch.Generator().manual_seed(seed)
    for stage, stage_map in enumerate(maps_of(x), 1):
        stride = 2 ** (stage + 1)
        column, row = place(at, side, stage_map.shape[-1], stride)
        center = (float(stride * column), float(stride * row))
        energy = _energy(stage_map[0, :, row, column], x, projections, random)
        radii = (radius(energy, center, share) for share in (0.5, 0.9))
        fields.append(ReceptiveField(label, stage, center, energy, *radii))
    return tuple(fields)


def _energy(
    channels: "Tensor", x: "Tensor", projections: int, random: "Generator"
) -> "NDArray[np.float64]":
    """Mean over random signs s of the squared gradient of ``s . channels``: ``(H, W)``."""
    import torch

    energy = torch.zeros(x.shape[-2:], dtype=torch.float64)
    for _ in range(projections):
        signs = torch.randint(2, channels.shape, generator=random) * 2 - 1
        total = (channels * signs).sum()
        (gradient,) = torch.autograd.grad(total, x, retain_graph=True)
        energy += gradient[0].double().square().sum(0) / projections
    return energy.numpy()


def compare(
    network: "Network",
    picture: "Photo",
    at: tuple[float, float],
    projections: int = PROJECTIONS,
    train_plain: bool = True,
) -> "tuple[ReceptiveField, ...]":
    """The network before and, if it is trained, after training, beside a plain CNN of its shape.

    The plain CNN is trained too where the network comes from a training of ours, by its recipe.
    """
    from archsearch.probes import plain_cnn

    x = network.input(picture)
    config = network.model.config
    rows: dict[str, Maps] = {
        "Plain CNN, untrained": plain_cnn.untrained(config, x).forward_features
    }
    if network.trial is not None and train_plain:
        model, value = plain_cnn.train(network.trial, config)
        note = "" if value is None else f" ({value:.1f}% in validation)"
        rows[f"Plain CNN, trained{note}"] = model.forward_features  # type: ignore[assignment]
    name = f"InternImage {network.label}"
    rows[f"{name}, untrained"] = network.untrained().model.forward_features
    if network.trained:
        rows[f"{name}, trained"] = network.model.forward_features
    found = (receptive_fields(n, maps_of, x, at, projections) for n, maps_of in rows.items())
    return tuple(field for fields in found for field in fields)
