"""Closed-form cost of a network, without building it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a network costs at one image size.

    ``params`` are trainable numbers; ``macs`` multiply-adds of convolutions, linears and the
    operator's samples for one image (facts in `count`); ``activations`` the output elements of
    convolutions, linears and the operator for one image.
    """

    params: int
    macs: int
    activations: int
    image_size: int
