"""The cost of a network and of single layers, in closed form. This module does not import torch.

Two conventions, for one image:

``macs``, ours, gives the "#FLOPs" that the paper prints for classifiers: multiply-adds of
convolutions, linear layers and attention. Norms, activations, pooling and softmax are not counted.

``mmcv`` gives the "FLOPs" that the paper prints for detectors and segmenters. It is how the counter
of the library mmcv, with which they were trained, counts modules: multiply-adds of convolutions and
linear layers, 1 per output element of a convolution with bias, 2 per element of a LayerNorm or
GroupNorm, 1 per output element of a ReLU and per input element of a pooling. BatchNorm, GELU,
softmax, interpolation, the products inside attention and every function that is not called as a
module count as nothing. No source states this; it was found by counting, and it gives all 12
printed figures.
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
    """The cost of one part of a network; tallies can be added and multiplied.

    ``mmcv`` is its cost in the convention of that name. Outside backbones with `FeatureMaps` and
    heads on them it is incomplete, and `Cost` does not have it.
    """

    params: int = 0
    macs: int = 0
    activations: int = 0
    mmcv: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.params + other.params,
            self.macs + other.macs,
            self.activations + other.activations,
            self.mmcv + other.mmcv,
        )

    def __mul__(self, times: int) -> "Tally":
        return Tally(
            self.params * times, self.macs * times, self.activations * times, self.mmcv * times
        )

    def as_function(self) -> "Tally":
        """The cost of the same layers if their modules are not called, but a function instead."""
        return Tally(self.params, self.macs, self.activations)


@dataclass(frozen=True)
class FeatureMaps:
    """The four maps of a backbone, at strides 4, 8, 16 and 32, and what they cost.

    ``sizes`` are (height, width) of each map; ``stem`` is the part of ``cost`` before the first
    stage.
    """

    channels: tuple[int, int, int, int]
    sizes: tuple[tuple[int, int], ...]
    cost: Tally
    stem: Tally

    @property
    def pixels(self) -> tuple[int, ...]:
        """The number of positions of each map."""
        return tuple(height * width for height, width in self.sizes)


def linear(c_in: int, c_out: int, pixels: int = 1, bias: bool = True) -> Tally:
    """The cost of `torch.nn.Linear` over ``pixels`` positions."""
    macs = c_in * c_out * pixels
    return Tally(c_in * c_out + bias * c_out, macs, c_out * pixels, macs)


def conv(
    c_in: int, c_out: int, kernel: int, pixels: int, groups: int = 1, bias: bool = True
) -> Tally:
    """The cost of `torch.nn.Conv2d` with ``pixels`` output positions."""
    weights = c_in // groups * c_out * kernel**2
    outputs = c_out * pixels
    mmcv = weights * pixels + bias * outputs
    return Tally(weights + bias * c_out, weights * pixels, outputs, mmcv)


def norm(channels: int, pixels: int = 0) -> Tally:
    """The cost of a norm: a scale and a shift per channel.

    Only the convention ``mmcv`` counts its ``pixels`` positions, and none of a BatchNorm.
    """
    return Tally(params=2 * channels, mmcv=2 * channels * pixels)
