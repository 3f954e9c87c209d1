"""Small GPU calls of every kind, to run under a sanitizer: ``python -m cuda_ops.sanitizer_calls``.

Every tensor is made on the host and copied. A sanitizer that watches our kernels alone does not see
what torch's kernels write, and would report our reads of it as uninitialized.
"""

from __future__ import annotations

import torch

from cuda_ops.geometry import ConvArgs
from cuda_ops.ops import dcnv3

# (arguments, height, width, channels a group): vector and scalar loads, one tile and several, and
# every kernel size that has its own kernel.
CALLS = (
    (ConvArgs(2, softmax=True), 9, 8, 16),
    (ConvArgs(1), 40, 34, 16),
    (ConvArgs(2, remove_center=True, softmax=True), 7, 7, 12),
    (ConvArgs(1, 5, 1, 2, softmax=True), 9, 8, 30),
    (ConvArgs(1, 7, 2, 3, softmax=True), 9, 8, 32),
    (ConvArgs(2, 2, dilation=2), 6, 5, 1),
)


def run_calls(device: str, backend: str) -> int:
    """Runs every call in every dtype, forward and backward; returns the number of calls."""
    num_calls = 0
    for args, height, width, group_channels in CALLS:
        pixels, points = args.output_size(height, width), args.groups * args.num_points
        channels = args.groups * group_channels
        shapes = ((height, width, channels), (*pixels, points * 2), (*pixels, points))
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            x, offset, mask, grad = (
                torch.randn(2, *shape, dtype=dtype).to(device)
                for shape in (*shapes, (*pixels, channels))
            )
            inputs = [tensor.requires_grad_() for tensor in (x, offset, mask)]
            out = dcnv3(*inputs, **args._asdict(), backend=backend)
            torch.autograd.grad(out, inputs, grad)
            num_calls += 1
    return num_calls


if __name__ == "__main__":
    print(f"{run_calls('cuda', 'cuda')} calls, forward and backward")
    torch.cuda.synchronize()
