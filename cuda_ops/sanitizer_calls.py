"""Small calls of every kind on a GPU, for a sanitizer: ``python -m cuda_ops.sanitizer_calls``.

Every tensor is made on the host and copied: a sanitizer that watches our kernels alone does not see
what torch's would write, and would call our reading of it uninitialised.
"""

from __future__ import annotations

import torch

from cuda_ops.geometry import Window
from cuda_ops.ops import dcnv3

# (window, height, width, channels a group): vectors and none, one tile and several, every K.
EXERCISES = (
    (Window(2, softmax=True), 9, 8, 16),
    (Window(1), 40, 34, 16),
    (Window(2, remove_center=True, softmax=True), 7, 7, 12),
    (Window(1, 5, 1, 2, softmax=True), 9, 8, 30),
    (Window(1, 7, 2, 3, softmax=True), 9, 8, 32),
    (Window(2, 2, dilation=2), 6, 5, 1),
)


def exercise(device: str, backend: str) -> int:
    """Forward and backward of every exercise in every dtype; returns the number of calls."""
    num_calls = 0
    for window, height, width, group_channels in EXERCISES:
        pixels, points = window.output_size(height, width), window.groups * window.num_points
        channels = window.groups * group_channels
        shapes = ((height, width, channels), (*pixels, points * 2), (*pixels, points))
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            x, offset, mask, grad = (
                torch.randn(2, *shape, dtype=dtype).to(device)
                for shape in (*shapes, (*pixels, channels))
            )
            inputs = [tensor.requires_grad_() for tensor in (x, offset, mask)]
            out = dcnv3(*inputs, **window._asdict(), backend=backend)
            torch.autograd.grad(out, inputs, grad)
            num_calls += 1
    return num_calls


if __name__ == "__main__":
    print(f"{exercise('cuda', 'cuda')} calls, forward and backward")
    torch.cuda.synchronize()
