"""Calls on which every backend of the operator must agree with its definition."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cuda_ops import ConvArgs, dcnv3
from cuda_ops.reference import dcnv3_loops, dcnv3_torch


@dataclass(frozen=True)
class Case:
    """One call. By default all sizes differ, so that swapped axes change the result."""

    args: ConvArgs = field(default_factory=lambda: ConvArgs(2))
    num_images: int = 2
    height: int = 4
    width: int = 3
    group_channels: int = 3
    spread: float = 0.7  # standard deviation of the offsets in pixels
    step: float = 0.0  # round offsets to multiples of this, to reach pixels and edges exactly

    def tensors(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """x, offset, mask and a gradient for the output, with the same values in every dtype."""
        args = self.args
        generator = torch.Generator().manual_seed(20240607)
        height, width = args.output_size(self.height, self.width)
        pixels = (self.num_images, height, width)
        points = args.groups * args.num_points
        channels = args.groups * self.group_channels
        x, offset, mask, grad = (
            torch.randn(*shape, generator=generator, dtype=torch.float64)
            for shape in (
                (self.num_images, self.height, self.width, channels),
                (*pixels, points * 2),
                (*pixels, points),
                (*pixels, channels),
            )
        )
        offset *= self.spread
        if self.step:
            offset = (offset / self.step).round() * self.step
        return [tensor.bfloat16().to(dtype) for tensor in (x, offset, mask, grad)]

    def leaves(self, dtype: torch.dtype, device: str = "cpu") -> tuple[list[Tensor], Tensor]:
        """Inputs on ``device`` that require gradients, and a gradient for the output."""
        *inputs, grad = (tensor.to(device) for tensor in self.tensors(dtype))
        return [tensor.requires_grad_() for tensor in inputs], grad


CASES = {
    "plain": Case(),
    "offsets of zero": Case(spread=0.0),
    "positions on pixels, halfway and on edges": Case(spread=2.0, step=0.5),
    "mostly outside": Case(spread=12.0),
    "kernel 1": Case(ConvArgs(2, kernel_size=1, padding=0)),
    "kernel 2": Case(ConvArgs(2, kernel_size=2)),
    "kernel 5": Case(ConvArgs(1, kernel_size=5, padding=2), num_images=1),
    "kernel 7": Case(ConvArgs(1, kernel_size=7, padding=3), num_images=1, height=3),
    "stride 2": Case(ConvArgs(2, stride=2), height=6, width=7),
    "dilation 2": Case(ConvArgs(2, dilation=2, padding=2)),
    "dilation 3, kernel 2": Case(ConvArgs(2, kernel_size=2, dilation=3, padding=2)),
    "no padding": Case(ConvArgs(2, padding=0)),
    "padding 3": Case(ConvArgs(1, padding=3), height=3, width=2, num_images=1),
    "no center": Case(ConvArgs(2, remove_center=True)),
    "no center, kernel 5": Case(ConvArgs(1, kernel_size=5, padding=2, remove_center=True), 1),
    "offset scale 2": Case(ConvArgs(2, offset_scale=2.0)),
    "softmax": Case(ConvArgs(2, softmax=True)),
    "softmax, no center, scale 2": Case(ConvArgs(2, 3, 1, 1, 1, 2.0, True, True)),
    "all at once": Case(ConvArgs(3, 3, 2, 2, 2, 1.5, True, True), height=8, width=9),
    "1 channel a group": Case(num_images=1, group_channels=1),
    "12 channels a group": Case(num_images=1, group_channels=12),
    "16 channels a group": Case(num_images=1, group_channels=16),
    "30 channels a group": Case(num_images=1, group_channels=30),
    "32 channels a group": Case(num_images=1, group_channels=32),
    "64 channels a group": Case(num_images=1, group_channels=64),
    "48 channels a group": Case(num_images=1, group_channels=48),
    "1x1 map": Case(height=1, width=1, num_images=5),
    "1 row": Case(height=1, width=6),
    "1 column": Case(height=6, width=1),
    "2x2 maps, many images": Case(ConvArgs(1), height=2, width=2, num_images=11),
}

LARGER_CASES = {  # need tiles, several passes over channels, many rounds or uneven teams
    "tiles by rows": Case(ConvArgs(1, softmax=True), 1, 38, 34, 16, spread=2.0),
    "tiles by rows and columns": Case(ConvArgs(2), 1, 8, 190, 20, spread=3.0),
    "tiles and far offsets": Case(ConvArgs(1), 1, 26, 48, 16, spread=15.0),
    "tiles, kernel 5": Case(ConvArgs(1, 5, 1, 2, softmax=True), 1, 41, 29, 16),
    "kernel 9, no center": Case(ConvArgs(1, 9, 1, 4, 1, 1.0, True, True), 1, 10, 9, 8),
    "kernel 9, 1 channel": Case(ConvArgs(2, 9, 1, 4, softmax=True), 1, 9, 10, 1),
    "kernel 5, 40 channels": Case(ConvArgs(2, 5, 2, 2, softmax=True), 2, 9, 8, 40),
    "kernel 7, 16 channels": Case(ConvArgs(2, 7, 1, 3, softmax=True), 1, 9, 8, 16),
    "600 channels a group": Case(ConvArgs(1, softmax=True), 1, 4, 5, 600),
    "151 channels a group": Case(ConvArgs(1, softmax=True), 1, 4, 5, 151),
    "80 groups": Case(ConvArgs(80, softmax=True), 1, 3, 4, 16),
    "stride 3, no center": Case(ConvArgs(3, 3, 3, 2, 2, 2.0, True, True), 3, 20, 17, 16),
}

STAGES = {
    "T stage 1": Case(ConvArgs(4, softmax=True), 2, 56, 56, 16, spread=1.5),
    "T stage 2": Case(ConvArgs(8, softmax=True), 2, 28, 28, 16, spread=1.5),
    "T stage 3": Case(ConvArgs(16, softmax=True), 3, 14, 14, 16, spread=1.5),
    "T stage 4": Case(ConvArgs(32, softmax=True), 5, 7, 7, 16, spread=1.5),
    # With `step`: at positions up to 334 float32 would round tiny offsets onto the pixel, where the
    # derivative is that of another cell.
    "B stage 1 at 800x1333": Case(
        ConvArgs(7, softmax=True), 1, 200, 334, 16, spread=2.0, step=1 / 256
    ),
    "L stage 4": Case(ConvArgs(80, softmax=True, offset_scale=2.0), 2, 12, 12, 16),
    "XL stage 4": Case(ConvArgs(96, softmax=True, offset_scale=2.0), 2, 12, 12, 16),
    "H stage 3": Case(ConvArgs(40, softmax=True), 1, 40, 40, 32),
}

# Largest `distance`: in float32 the sums are rounded, in half types also the results.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 3e-6,
    torch.float16: 1e-3,
    torch.bfloat16: 8e-3,
}


@functools.cache
def expected(name: str) -> tuple[Tensor, ...]:
    """The output and the gradients of x, offset and mask, by the definition."""
    *inputs, grad = CASES[name].tensors()
    for tensor in inputs:
        tensor.requires_grad_()
    out = dcnv3_loops(*inputs, CASES[name].args)
    # allow_unused: if every point is outside, the output is a constant.
    grads = torch.autograd.grad(out, inputs, grad, allow_unused=True, materialize_grads=True)
    return (out.detach(), *grads)


def device_of(backend: str) -> str:
    return "cuda" if backend == "cuda" else "cpu"


def compute(case: Case, inputs: list[Tensor], grad: Tensor, backend: str) -> list[Tensor]:
    """The output and the gradients of the inputs, by a backend."""
    out = dcnv3(*inputs, **case.args._asdict(), backend=backend)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


def reference(case: Case, inputs: list[Tensor], grad: Tensor) -> list[Tensor]:
    """As `compute`, in float64 by the vectorized reference, for calls too large for the loops."""
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    out = dcnv3_torch(*exact, case.args)
    return [out.detach(), *torch.autograd.grad(out, exact, grad.double())]


def distance(got: Tensor, wanted: Tensor) -> float:
    """The largest difference relative to the largest value, or to 1 if that is larger."""
    if wanted.numel() == 0:
        return 0.0
    difference = (got.detach().double().cpu() - wanted.detach().double()).abs().max()
    return float(difference / wanted.detach().abs().max().clamp_min(1.0))
