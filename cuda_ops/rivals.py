"""The official CUDA operators DCNv3 and DCNv4 as columns of the benchmark, from sources on disk.

Nothing of them is in this repository: the folder named on the command line is searched for their
sources, which are copied to torch's extension cache, changed where today's torch needs it, and
compiled there. Written without a GPU at hand: what does not compile or run is said and left out.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Names that torch dropped since, and what stands in their place.
REPLACEMENTS = (
    (r"#include <THC/THCAtomics\.cuh>", "#include <ATen/cuda/Atomic.cuh>"),
    (r"#include <THC/[^>]*>", ""),
    (r"\.type\(\)\.is_cuda\(\)", ".is_cuda()"),
    (r"\b(input|value)\.type\(\)", r"\1.scalar_type()"),
    (r"\.data<", ".data_ptr<"),
    (r"\bAT_ASSERTM\b", "TORCH_CHECK"),
)


def find_rivals(folder: Path) -> dict[str, Callable[[Any], Any]]:
    """Per rival that is there and compiles: from a shape to a function of x, offset and logits."""
    found: dict[str, Callable[[Any], Any]] = {}
    for name, source, make in (
        ("DCNv3", "dcnv3_cuda.cu", _dcnv3_maker),
        ("DCNv4", "dcnv4_cuda.cu", _dcnv4_maker),
    ):
        sources = sorted(folder.rglob(source))
        if not sources:
            print(f"{name}: no {source} below {folder}", file=sys.stderr)
            continue
        try:
            found[name] = make(_compile(name, sources[0].parent.parent))
        except (RuntimeError, OSError) as error:
            print(f"{name} does not compile here, left out:\n{error}", file=sys.stderr)
    return found


def _compile(name: str, source_folder: Path) -> Any:
    from torch.utils.cpp_extension import load

    copy = Path(tempfile.mkdtemp(prefix=f"{name}-")) / "src"
    shutil.copytree(source_folder, copy)
    for path in copy.rglob("*"):
        if path.suffix in (".cu", ".cuh", ".h", ".cpp"):
            text = path.read_text()
            for old, new in REPLACEMENTS:
                text = re.sub(old, new, text)
            path.write_text(text)
    sources = [path for path in sorted(copy.rglob("*")) if path.suffix in (".cu", ".cpp")]
    return load(
        name=f"rival_{name.lower()}",
        sources=[str(path) for path in sources],
        extra_include_paths=[str(copy)],
        extra_cflags=["-DWITH_CUDA"],
        extra_cuda_cflags=["-O3", "-DWITH_CUDA"],
    )


def _dcnv3_maker(extension: Any) -> Callable[[Any], Any]:
    """Its softmax is a call of its own, as in the official layer."""

    class Official(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, offset: Tensor, mask: Tensor, groups: int) -> Tensor:
            ctx.save_for_backward(x, offset, mask)
            ctx.arguments = (3, 3, 1, 1, 1, 1, 1, 1, groups, x.shape[-1] // groups, 1.0)
            out: Tensor = extension.dcnv3_forward(x, offset, mask, *ctx.arguments, 256, 0)
            return out

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
            grads = extension.dcnv3_backward(
                *ctx.saved_tensors, *ctx.arguments, grad.contiguous(), 256, 0
            )
            return (*grads, None)

    def make(shape: Any) -> Any:
        def call(x: Tensor, offset: Tensor, mask: Tensor) -> Any:
            weights = mask.reshape(*mask.shape[:3], shape.groups, 9).softmax(-1).flatten(-2)
            return Official.apply(x, offset, weights, shape.groups)  # type: ignore[no-untyped-call]

        return call

    return make


def _dcnv4_maker(extension: Any) -> Callable[[Any], Any]:
    """Its kernel's own softmax is on. Offset and mask are merged once, before the clock runs, and
    their gradients stay merged: neither is charged to it, nor the search for its launch sizes."""

    class Flash(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, x: Tensor, offset: Tensor, mask: Tensor, merged: Tensor, groups: int
        ) -> Tensor:
            ctx.save_for_backward(x, offset, mask, merged)
            ctx.arguments = (3, 3, 1, 1, 1, 1, 1, 1, groups, x.shape[-1] // groups, 1.0, 256)
            threads = _dcnv4_threads(x, groups, channels_per_thread=8, most=512)
            out: Tensor = extension.dcnv4_forward(x, merged, *ctx.arguments, 0, 8, threads, True)
            return out

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
            x, offset, mask, merged = ctx.saved_tensors
            threads = _dcnv4_threads(x, ctx.arguments[8], channels_per_thread=1, most=256)
            grads = extension.dcnv4_backward(
                x, merged, *ctx.arguments, grad.contiguous(), 0, 1, threads, True
            )
            return grads[0], torch.empty_like(offset), torch.empty_like(mask), None, None

    def make(shape: Any) -> Any:
        merged: list[Tensor] = []

        def call(x: Tensor, offset: Tensor, mask: Tensor) -> Any:
            if not merged:
                merged.append(_merge(offset.detach(), mask.detach(), shape.groups))
            return Flash.apply(x, offset, mask, merged[0], shape.groups)  # type: ignore[no-untyped-call]

        return call

    return make


def _merge(offset: Tensor, mask: Tensor, groups: int) -> Tensor:
    """Per group its offsets and then its mask, the whole padded to a multiple of 8."""
    parts = [tensor.reshape(*tensor.shape[:3], groups, -1) for tensor in (offset, mask)]
    merged = torch.cat(parts, -1).flatten(-2)
    return torch.nn.functional.pad(merged, (0, -merged.shape[-1] % 8)).contiguous()


def _dcnv4_threads(x: Tensor, groups: int, channels_per_thread: int, most: int) -> int:
    """Threads of a block by its own rule: the most pixels that divide all of them and fit."""
    pixels = x.shape[0] * x.shape[1] * x.shape[2]
    lanes = x.shape[-1] // channels_per_thread
    fitting = [n for n in range(1, 65) if pixels % n == 0 and n * lanes <= most]
    assert lanes % groups == 0
    return max(fitting, default=1) * lanes
