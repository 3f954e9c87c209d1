"""The cost of a network and of single layers, in closed form. This module does not import torch.

Convention, which gives the "#FLOPs" that the paper prints: multiply-adds of convolutions, linear
layers and attention. Norms, activations, pooling and softmax are not counted. One image, batch 1.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """The cost of a network at one image size.

    ``params`` counts trainable parameters; ``macs`` multiply-adds for one image in the convention
    of this module; ``activations`` the output elements of convolutions, linear layers, attention
    and sampling operators for one image. ``image_size`` is the side of a square image in pixels,
    else (height, width).
    """

    params: int
    macs: int
    activations: int
    image_size: int | tuple[int, int]


def image_size(height: int, width: int) -> int | tuple[int, int]:
    """The value of `Cost.image_size`: one number for a square image, else (height, width)."""
    return height if height == width else (height, width)


@dataclass(frozen=True)
class Tally:
    """The cost of one part of a network; tallies can be added and multiplied."""

    params: int = 0
    macs: int = 0
    activations: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.params + other.params,
            self.macs + other.macs,
            self.activations + other.activations,
        )

    def __mul__(self, times: int) -> "Tally":
        return Tally(self.params * times, self.macs * times, self.activations * times)


def linear(c_in: int, c_out: int, pixels: int = 1, bias: bool = True) -> Tally:
    """The cost of `torch.nn.Linear` over ``pixels`` positions, or of a 1x1 convolution."""
    return Tally(c_in * c_out + bias * c_out, c_in * c_out * pixels, c_out * pixels)


def conv(
    c_in: int, c_out: int, kernel: int, pixels: int, groups: int = 1, bias: bool = True
) -> Tally:
    """The cost of `torch.nn.Conv2d` with ``pixels`` output positions."""
    weights = c_in // groups * c_out * kernel**2
    return Tally(weights + bias * c_out, weights * pixels, c_out * pixels)


def norm(channels: int) -> Tally:
    """The cost of LayerNorm or BatchNorm: a scale and a shift, no multiply-adds by convention."""
    return Tally(params=2 * channels)
