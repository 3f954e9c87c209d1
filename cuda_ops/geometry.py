"""The arguments of a DCNv3 call, its output size and its cost, without torch.

`csrc/geometry.h` holds the same in C++.
"""

from __future__ import annotations

from typing import NamedTuple

MACS_PER_SAMPLED_ELEMENT = 5
"""Four for the bilinear sample and one for the modulation: the paper's convention.

It reproduces the printed "FLOPs" of InternImage T, S, B, L and XL (Table 1, Tables A and D).
"""


class ConvArgs(NamedTuple):
    """The operator's arguments that are not tensors, in the order of its schema."""

    groups: int
    kernel_size: int = 3
    stride: int = 1
    padding: int = 1
    dilation: int = 1
    offset_scale: float = 1.0
    remove_center: bool = False
    softmax: bool = False

    @property
    def num_points(self) -> int:
        """Sampling points per output pixel and group: K*K, or K*K - 1 with `remove_center`."""
        return self.kernel_size**2 - int(self.remove_center)

    @property
    def half_extent(self) -> int:
        """Distance in pixels from the first tap of the kernel to its center, h = d(K-1)//2."""
        return self.dilation * (self.kernel_size - 1) // 2

    def taps(self) -> list[tuple[int, int]]:
        """(column i, row j) of every point in order: k = i*K + j, so i over x is the slow index.

        The released checkpoints use this order. With `remove_center` the center is left out.
        """
        size = self.kernel_size
        center = size // 2 if self.remove_center else None
        return [(i, j) for i in range(size) for j in range(size) if (i, j) != (center, center)]

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output: (size + 2p - d(K-1) - 1)//s + 1 (may be below one)."""
        reach = self.dilation * (self.kernel_size - 1) + 1
        return (
            (height + 2 * self.padding - reach) // self.stride + 1,
            (width + 2 * self.padding - reach) // self.stride + 1,
        )


def dcnv3_macs(
    num_pixels: int, channels: int, *, kernel_size: int = 3, remove_center: bool = False
) -> int:
    """Multiply-adds of one forward call: 5 * num_pixels * P * channels.

    `num_pixels` is N*Ho*Wo. P is the number of sampling points: K*K, or K*K - 1 with
    `remove_center`. The softmax and the projections around the operator are not counted.
    """
    points = ConvArgs(1, kernel_size=kernel_size, remove_center=remove_center).num_points
    return MACS_PER_SAMPLED_ELEMENT * num_pixels * points * channels
