"""The numbers of one DCNv3 call, without torch: its kernel window, its output size, its cost.

`csrc/geometry.h` is the same in C++.
"""

from __future__ import annotations

from typing import NamedTuple

MACS_PER_SAMPLED_ELEMENT = 5
"""Four for the bilinear sample and one for the modulation: the paper's convention.

With it the printed "FLOPs" of InternImage T, S, B, L and XL come out (Table 1, Tables A and D).
"""


class Window(NamedTuple):
    """The arguments of the operator that are not tensors, in the order of the operator's schema."""

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
        """Distance in pixels from the window's first tap to its centre, h = d(K-1)//2."""
        return self.dilation * (self.kernel_size - 1) // 2

    def taps(self) -> list[tuple[int, int]]:
        """(column i, row j) of every point in order: k = i*K + j, so i over x is the slow index.

        The order is that of the released checkpoints; with `remove_center` the centre is left out.
        """
        size = self.kernel_size
        centre = size // 2 if self.remove_center else None
        return [(i, j) for i in range(size) for j in range(size) if (i, j) != (centre, centre)]

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

    `num_pixels` is N*Ho*Wo and P the number of points that are sampled, K*K without
    `remove_center`. The projections around the operator and the softmax are not in it.
    """
    points = Window(1, kernel_size=kernel_size, remove_center=remove_center).num_points
    return MACS_PER_SAMPLED_ELEMENT * num_pixels * points * channels
