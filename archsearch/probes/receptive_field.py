"""Which pixels does each stage respond to, before and after training?"""

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
    small="one photograph: seconds on a CPU, or a minute if the plain CNN is trained too",
    full="S or B with the released weights at 224 x 224, beside ResNet-101",
)

PROJECTIONS = 8
StageMaps = Callable[["Tensor"], Sequence["Tensor"]]
"""Returns the stage maps, NCHW, of an image."""


def receptive_fields(
    label: str,
    maps_of: StageMaps,
    image: "Tensor",
    at: tuple[float, float],
    projections: int = PROJECTIONS,
) -> "tuple[ReceptiveField, ...]":
    """Return the receptive field of the position nearest to ``at``, in every stage.

    The energy of a pixel is the sum of the squared derivatives of all channels, estimated without
    bias from ``projections`` sums of the channels with random signs. The plain sum of the channels,
    which the paper's text suggests, cannot be used here: after a LayerNorm it is constant, and its
    gradient is zero.

    Args:
        maps_of: returns the stage maps of an image.
        image: ``(1, 3, S, S)``, normalized.
        at: (x, y) as fractions of the image.
    """
    import torch

    from archsearch.probes.photos import ReceptiveField, map_position, radius

    x = image.clone().requires_grad_()
    side, fields = image.shape[-1], []
    random = torch.Generator().manual_seed(0)
    for stage, stage_map in enumerate(maps_of(x), 1):
        stride = 2 ** (stage + 1)
        column, row = map_position(at, side, stage_map.shape[-1], stride)
        center = (float(stride * column), float(stride * row))
        energy = _energy(stage_map[0, :, row, column], x, projections, random)
        radii = (radius(energy, center, share) for share in (0.5, 0.9))
        fields.append(ReceptiveField(label, stage, center, energy, *radii))
    return tuple(fields)


def _energy(
    channels: "Tensor", x: "Tensor", projections: int, random: "Generator"
) -> "NDArray[np.float64]":
    """Return ``(H, W)``: the squared gradient of ``s . channels``, averaged over random signs s."""
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
    """Return the receptive fields of a plain CNN of the same shape and of the network.

    The network is shown before training and, if it is trained, after it. If it is from a run, the
    plain CNN is trained too, with the same recipe.
    """
    from archsearch.probes import plain_cnn

    x = network.input(picture)
    config = network.model.config
    models: dict[str, StageMaps] = {
        "Plain CNN, untrained": plain_cnn.untrained(config, x).forward_features
    }
    if network.trial is not None and train_plain:
        model, value = plain_cnn.train(network.trial, config)
        note = "" if value is None else f" ({value:.1f}% in validation)"
        models[f"Plain CNN, trained{note}"] = model.forward_features  # type: ignore[assignment]
    name = f"InternImage {network.label}"
    models[f"{name}, untrained"] = network.untrained().model.forward_features
    if network.trained:
        models[f"{name}, trained"] = network.model.forward_features
    return tuple(
        field
        for label, maps_of in models.items()
        for field in receptive_fields(label, maps_of, x, at, projections)
    )
