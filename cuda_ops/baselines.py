"""The official CUDA operators DCNv3 and DCNv4 as baselines of the benchmark, from sources on disk.

This repository contains none of their code. We search the folder named on the command line for
their sources, copy them to the cache, adapt them to current torch and compile them there, once per
content. `python -m cuda_ops.baselines FOLDER` does only that. This module was written without
access to a GPU: an operator that does not compile or run is reported and left out.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cuda_ops.build import compiler_errors
from cuda_ops.cache import cache_root, locked
from cuda_ops.geometry import ConvArgs

OperatorMaker = Callable[[int], Callable[[Tensor, Tensor, Tensor], Tensor]]
"""Makes, for a number of groups, a function of x, offset and logits, all contiguous."""

# Names that torch has removed, and their replacements.
REPLACEMENTS = (
    (r"#include <THC/THCAtomics\.cuh>", "#include <ATen/cuda/Atomic.cuh>"),
    (r"#include <THC/[^>]*>", ""),
    (r"\.type\(\)\.is_cuda\(\)", ".is_cuda()"),
    (r"\b(input|value)\.type\(\)", r"\1.scalar_type()"),
    (r"\.data<", ".data_ptr<"),
    (r"\bAT_ASSERTM\b", "TORCH_CHECK"),
)


def find_baselines(
    folder: Path, names: tuple[str, ...] = ("DCNv3", "DCNv4")
) -> tuple[dict[str, OperatorMaker], dict[str, str]]:
    """The baselines whose sources are below `folder` and compile, and why the others are left out.

    The reasons are also printed on stderr. Baselines have kernel size 3, stride 1 and padding 1.
    """
    makers: dict[str, OperatorMaker] = {}
    left_out: dict[str, str] = {}
    for name in names:
        source, make = BASELINES[name]
        sources = sorted(folder.rglob(source))
        try:
            if not sources:
                raise FileNotFoundError(f"no {source} below {folder}")
            makers[name] = make(_compile(name, sources[0].parent.parent))
        # A library that does not match this torch or Python compiles, but cannot be imported.
        except (RuntimeError, OSError, ImportError) as error:
            left_out[name] = compiler_errors(str(error))
            print(f"{name} is left out: {left_out[name]}", file=sys.stderr)
    return makers, left_out


def _compile(name: str, source_folder: Path) -> Any:
    """The extension, compiled or from the cache. Raises what torch's loader raises."""
    from torch.utils.cpp_extension import load

    texts = _adapted_sources(source_folder)
    digest = hashlib.sha256(repr((torch.__version__, texts)).encode()).hexdigest()[:16]
    folder = cache_root() / "baselines" / f"{name}-{digest}"
    (folder / "build").mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        # torch's own lock survives a killed build, and the next build would wait for it forever.
        (folder / "build" / "lock").unlink(missing_ok=True)
        return load(
            name=f"baseline_{name.lower()}",
            sources=[str(path) for path in _write_sources(texts, folder / "src")],
            extra_include_paths=[str(folder / "src")],
            extra_cflags=["-DWITH_CUDA"],
            extra_cuda_cflags=["-O3", "-DWITH_CUDA"],
            build_directory=str(folder / "build"),
        )


def _adapted_sources(folder: Path) -> dict[str, str]:
    """Each source and header, adapted to current torch, by its path below `folder`."""
    return {
        str(path.relative_to(folder)): _adapted(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".cu", ".cuh", ".h", ".cpp")
    }


def _write_sources(texts: dict[str, str], folder: Path) -> list[Path]:
    """Writes the files; returns those to compile.

    An unchanged file is not written again, because ninja compares modification times.
    """
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return [folder / name for name in texts if name.endswith((".cu", ".cpp"))]


def _adapted(text: str) -> str:
    for old, new in REPLACEMENTS:
        text = re.sub(old, new, text)
    return text


def _dcnv3_maker(extension: Any) -> OperatorMaker:
    """Makes DCNv3. The softmax is a separate call, cast to x's dtype, as in the official layer."""

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


def _dcnv4_maker(extension: Any) -> OperatorMaker:
    """Makes DCNv4, with the softmax of its own kernel.

    In its favor we do not count some of its work: offset and mask are merged once, before the
    timing starts, their gradients stay merged, and its search for launch sizes is left out.
    """

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
    """Each group's offsets followed by its mask; the last axis is padded to a multiple of 8."""
    parts = [tensor.reshape(*tensor.shape[:3], groups, -1) for tensor in (offset, mask)]
    merged = torch.cat(parts, -1).flatten(-2)
    return torch.nn.functional.pad(merged, (0, -merged.shape[-1] % 8)).contiguous()


def _dcnv4_threads(x: Tensor, groups: int, channels_per_thread: int, most: int) -> int:
    """Threads per block by DCNv4's rule: the most pixels that fit and divide their total."""
    pixels = x.shape[0] * x.shape[1] * x.shape[2]
    lanes = x.shape[-1] // channels_per_thread
    fitting = [n for n in range(1, 65) if pixels % n == 0 and n * lanes <= most]
    assert lanes % groups == 0
    return max(fitting, default=1) * lanes


def as_dcnv3(make: OperatorMaker) -> Callable[..., Tensor]:
    """A baseline with the signature of `cuda_ops.dcnv3`, for use in a network.

    Not for DCNv4, whose operator here works for one set of offsets and returns no gradient for
    them. The operator raises ValueError for arguments that the baseline does not support.
    """

    def operator(x: Tensor, offset: Tensor, mask: Tensor, **arguments: Any) -> Tensor:
        args = ConvArgs(**arguments)
        if args != ConvArgs(args.groups, softmax=True):
            raise ValueError(f"wanted kernel size 3, stride, padding and scale 1, got {args}")
        tensors = (tensor.contiguous() for tensor in (x, offset, mask))
        return make(args.groups)(*tensors)

    return operator


BASELINES: dict[str, tuple[str, Callable[[Any], OperatorMaker]]] = {
    "DCNv3": ("dcnv3_cuda.cu", _dcnv3_maker),
    "DCNv4": ("dcnv4_cuda.cu", _dcnv4_maker),
}
"""By name: a source file that identifies its folder, and the maker of its operator."""


if __name__ == "__main__":
    sys.exit(1 if find_baselines(Path(sys.argv[1]))[1] else 0)
