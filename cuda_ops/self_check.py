"""The self-check of the CUDA kernels: their numbers on this GPU against the definition in float64.

It runs before the first call of a build on a kind of GPU and driver, takes less than a second, and
stores its result beside the library. A result that cannot be read is computed again. In a folder
that cannot be written every process runs the check. As every first call, it must not be part of a
CUDA graph.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from cuda_ops.architectures import LEAST_CAPABILITY, dotted, visible_capabilities
from cuda_ops.check_mode import VARIABLE, check_mode
from cuda_ops.geometry import ConvArgs
from cuda_ops.reference import dcnv3_torch, dcnv3_torch_backward

DRIVER = Path("/proc/driver/nvidia/version")
RESULTS = ("output", "gradient of x", "gradient of offset", "gradient of mask")

# Largest error relative to the largest value, or to 1 if that is larger. The tests' tolerances are
# a tenth of these: a wrong kernel is wrong by about 1, and rounding alone must not be reported.
TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
}

# Arguments, height, width and channels a group: every kernel size that has its own kernel, vector
# and scalar loads, and (by the stride at little cost) a map of several tiles.
CALLS = (
    (ConvArgs(2, softmax=True), 5, 4, 16),
    (ConvArgs(1, stride=5, softmax=True), 40, 34, 16),
    (ConvArgs(2, remove_center=True, softmax=True), 4, 5, 12),
    (ConvArgs(1, 5, padding=2, softmax=True), 4, 3, 30),
    (ConvArgs(1, 7, padding=3), 3, 4, 32),
)


@dataclass(frozen=True)
class Gpu:
    """A visible GPU: what may change the results of a build, and its name."""

    index: int
    name: str
    capability: str
    driver: str

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability}, driver {self.driver})"


@dataclass(frozen=True)
class Result:
    """What the self-check found on one kind of GPU; no differences if the kernels are right."""

    gpu: str
    differences: tuple[str, ...]


def gpus() -> list[Gpu]:
    """The visible GPUs on which the kernels can run."""
    driver = driver_version()
    return [
        Gpu(index, torch.cuda.get_device_name(index), dotted(capability), driver)
        for index, capability in enumerate(visible_capabilities())
        if capability >= LEAST_CAPABILITY
    ]


def driver_version() -> str:
    """The NVIDIA driver's version, such as "580.82.07"; "unknown" if Linux does not report it."""
    with contextlib.suppress(OSError):
        if match := re.search(r"\b\d+\.\d+(\.\d+)?\b", DRIVER.read_text()):
            return match[0]
    return "unknown"


def one_of_each_kind(device: torch.device) -> list[Gpu]:
    """One GPU per compute capability, `device` itself for its own.

    A process that uses one of several equal GPUs does not allocate memory on another.
    """
    first = sorted(gpus(), key=lambda gpu: gpu.index != device.index)
    return list({gpu.capability: gpu for gpu in reversed(first)}.values())


def first_run_error(library: Path, device: torch.device) -> str | None:
    """Why the kernels of `library` must not be used on the visible GPUs, or None.

    Raises:
        ValueError: ARCHSEARCH_CUDA_CHECK has a wrong value.
    """
    mode = check_mode()
    if mode == "off":
        return None
    for gpu in one_of_each_kind(device):
        result = stored_result(library, gpu) if mode == "once" else None
        if result is None:
            on_gpu = torch.device(device.type, gpu.index)
            result = Result(str(gpu), tuple(differences(on_gpu)))
            _store(result, library, gpu)
        if result.differences:
            return error_of(result)
    return None


def error_of(result: Result) -> str:
    """The message for a failed check."""
    return (
        f"The self-check on {result.gpu} found wrong numbers, first: {result.differences[0]}. "
        "`archsearch doctor` shows all. Please report them. To check again after a change of the "
        f"driver or the GPU, set {VARIABLE}=always for one run; {VARIABLE}=off uses the kernels as "
        "they are."
    )


def differences(device: torch.device) -> list[str]:
    """A line per result of a call on `device` that differs from the definition."""
    lines = []
    for args, height, width, group_channels in CALLS:
        inputs = inputs_of(args, height, width, group_channels)
        wanted = by_definition(inputs, args)
        for dtype, tolerance in TOLERANCE.items():
            on_device = [tensor.to(device, dtype) for tensor in inputs]
            got = _by_kernels(on_device, args)
            for name, ours, theirs in zip(RESULTS, got, wanted, strict=True):
                error = _distance(ours, theirs)
                if not error <= tolerance:
                    lines.append(
                        f"{name} of kernel size {args.kernel_size}, {group_channels} channels a "
                        f"group, {height}x{width} pixels, {str(dtype).removeprefix('torch.')}: "
                        f"error {error:.2g}, at most {tolerance:.0e} is rounding"
                    )
    return lines


def inputs_of(args: ConvArgs, height: int, width: int, group_channels: int) -> list[Tensor]:
    """x, offset, mask and the output's gradient, in values that every dtype has.

    The offsets avoid whole pixels, where the derivative jumps.
    """
    generator = torch.Generator("cpu").manual_seed(20240607)
    pixels, points = (2, *args.output_size(height, width)), args.groups * args.num_points
    channels = args.groups * group_channels

    def random(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")
        return values.bfloat16().double()

    x, shift, mask, grad = (
        random(*shape)
        for shape in (
            (2, height, width, channels),
            (*pixels, points * 2),
            (*pixels, points),
            (*pixels, channels),
        )
    )
    offset = (shift * 2).round().clamp(-4, 4) / 2 + 0.25
    return [x, offset, mask, grad]


def by_definition(inputs: list[Tensor], args: ConvArgs) -> tuple[Tensor, ...]:
    """The results in float64, vectorized: the tests hold them equal to the definition in loops.

    The gradients are computed by formula, because the caller may be below autograd.
    """
    x, offset, mask, grad = inputs
    return (
        dcnv3_torch(x, offset, mask, args),
        *dcnv3_torch_backward(grad, x, offset, mask, args),
    )


def _by_kernels(inputs: list[Tensor], args: ConvArgs) -> tuple[Tensor, ...]:
    x, offset, mask, grad = inputs
    operators = torch.ops.archsearch
    return (
        operators.dcnv3.default(x, offset, mask, *args),
        *operators.dcnv3_backward.default(grad, x, offset, mask, *args, True, True, True),
    )


def _distance(got: Tensor, wanted: Tensor) -> float:
    return float((got.cpu().double() - wanted).abs().max() / wanted.abs().max().clamp_min(1.0))


# ---- the stored results ----


def _path(library: Path, gpu: Gpu) -> Path:
    return library.with_name(f"self-check-{gpu.capability}-{gpu.driver}.json")


def stored_result(library: Path, gpu: Gpu) -> Result | None:
    """The stored result for a kind of GPU; None if there is none that can be read."""
    try:
        stored = json.loads(_path(library, gpu).read_text())
        return Result(str(stored["gpu"]), tuple(map(str, stored["differences"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _store(result: Result, library: Path, gpu: Gpu) -> None:
    """Writes the result atomically, unless the folder is read-only."""
    with contextlib.suppress(OSError):
        handle, part = tempfile.mkstemp(prefix="part-", dir=library.parent)
        with os.fdopen(handle, "w") as file:
            json.dump(asdict(result), file, indent=1)
        Path(part).replace(_path(library, gpu))
