"""The official CUDA operators DCNv3 and DCNv4 as columns of the benchmark, from sources on disk.

Nothing of them is in this repository: the folder named on the command line is searched for their
sources, which are copied to the cache, changed where today's torch needs it, and compiled there,
once per content. `python -m cuda_ops.baselines FOLDER` does just that. Written without a GPU at
hand: what does not compile or run is said and left out.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cuda_ops.build import cache_root, compiler_errors
from cuda_ops.geometry import Window

Maker = Callable[[int], Callable[[Tensor, Tensor, Tensor], Tensor]]
"""From a number of groups to a function of x, offset and logits, all contiguous."""

# Names that torch dropped since, and what stands in their place.
REPLACEMENTS = (
    (r"#include <THC/THCAtomics\.cuh>", "#include <ATen/cuda/Atomic.cuh>"),
    (r"#include <THC/[^>]*>", ""),
    (r"\.type\(\)\.is_cuda\(\)", ".is_cuda()"),
    (r"\b(input|value)\.type\(\)", r"\1.scalar_type()"),
    (r"\.data<", ".data_ptr<"),
    (r"\bAT_ASSERTM\b", "TORCH_CHECK"),
)


def find_rivals(
    folder: Path, wanted: tuple[str, ...] = ("DCNv3", "DCNv4")
) -> tuple[dict[str, Maker], dict[str, str]]:
    """The rivals that are there and compile, and why the others are left out, which it also tells.

    All are kernels of size 3 with stride and padding 1.
    """
    found: dict[str, Maker] = {}
    reasons: dict[str, str] = {}
    for name in wanted:
        source, make = RIVALS[name]
        sources = sorted(folder.rglob(source))
        try:
            if not sources:
                raise FileNotFoundError(f"no {source} below {folder}")
            found[name] = make(_compile(name, sources[0].parent.parent))
        # A library that does not fit this torch or Python compiles, and fails as an import.
        except (RuntimeError, OSError, ImportError) as error:
            reasons[name] = compiler_errors(str(error))
            print(f"{name} is left out: {reasons[name]}", file=sys.stderr)
    return found, reasons


def _compile(name: str, source_folder: Path) -> Any:
    """The extension, compiled or out of the cache. Raises what torch's loader raises."""
    from torch.utils.cpp_extension import load

    texts = _changed_sources(source_folder)
    digest = hashlib.sha256(repr((torch.__version__, texts)).encode()).hexdigest()[:16]
    folder = cache_root() / "rivals" / f"{name}-{digest}"
    (folder / "build").mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        # torch's own lock outlives a killed build, and the next would wait for it for ever.
        (folder / "build" / "lock").unlink(missing_ok=True)
        return load(
            name=f"rival_{name.lower()}",
            sources=[str(path) for path in _written(texts, folder / "src")],
            extra_include_paths=[str(folder / "src")],
            extra_cflags=["-DWITH_CUDA"],
            extra_cuda_cflags=["-O3", "-DWITH_CUDA"],
            build_directory=str(folder / "build"),
        )


def _changed_sources(folder: Path) -> dict[str, str]:
    """By path below `folder`, each source and header as today's torch wants it."""
    return {
        str(path.relative_to(folder)): _changed(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".cu", ".cuh", ".h", ".cpp")
    }


def _written(texts: dict[str, str], folder: Path) -> list[Path]:
    """Those to compile. A file that is there already keeps its time: ninja goes by it."""
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return [folder / name for name in texts if name.endswith((".cu", ".cpp"))]


def _changed(text: str) -> str:
    for old, new in REPLACEMENTS:
        text = re.sub(old, new, text)
    return text


def _dcnv3_maker(extension: Any) -> Maker:
    """Its softmax is a call of its own, and cast to x's dtype, as in the official layer."""

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

    def make(groups: int) -> Any:
        def call(x: Tensor, offset: Tensor, mask: Tensor) -> Any:
            weights = mask.reshape(*mask.shape[:3], groups, 9).softmax(-1).flatten(-2)
            weights = weights.to(x.dtype)
            return Official.apply(x, offset, weights, groups)  # type: ignore[no-untyped-call]

        return call

    return make


def _dcnv4_maker(extension: Any) -> Maker:
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

    def make(groups: int) -> Any:
        merged: list[Tensor] = []

        def call(x: Tensor, offset: Tensor, mask: Tensor) -> Any:
            if not merged:
                merged.append(_merge(offset.detach(), mask.detach(), groups))
            return Flash.apply(x, offset, mask, merged[0], groups)  # type: ignore[no-untyped-call]

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


def in_a_network(make: Maker) -> Callable[..., Tensor]:
    """A rival with the arguments of `cuda_ops.dcnv3`, as the layer calls it.

    Not for DCNv4, whose operator here serves one set of offsets and returns no gradient for them.
    Raises ValueError for any window but its own.
    """

    def operator(x: Tensor, offset: Tensor, mask: Tensor, **arguments: Any) -> Tensor:
        window = Window(**arguments)
        if window != Window(window.groups, softmax=True):
            raise ValueError(f"wanted kernel size 3, stride, padding and scale 1, got {window}")
        tensors = (tensor.contiguous() for tensor in (x, offset, mask))
        return make(window.groups)(*tensors)

    return operator


RIVALS: dict[str, tuple[str, Callable[[Any], Maker]]] = {
    "DCNv3": ("dcnv3_cuda.cu", _dcnv3_maker),
    "DCNv4": ("dcnv4_cuda.cu", _dcnv4_maker),
}
"""By name: the source that its folder is found by, and what makes an operator of the extension."""


if __name__ == "__main__":
    sys.exit(1 if find_rivals(Path(sys.argv[1]))[1] else 0)
