"""The CUDA backend without a GPU: compiled for one architecture, the slow tests for two as well.

The tests check the assembler's report of each kernel, and that the installed torch can load the
library.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cuda_ops import build
from cuda_ops.toolchain import BuildError

try:
    (NVCC,) = build.cuda_recipe(("90",)).find_compiler()
except BuildError as error:
    pytest.skip(f"CUDA cannot be compiled here: {error}", allow_module_level=True)


@dataclass(frozen=True)
class Kernel:
    """One kernel's resources, per thread."""

    name: str  # such as forward_kernel<float, 4, 2, 3>
    architecture: str
    registers: int
    stack_bytes: int
    spilled_bytes: int

    @property
    def is_for_kernel_3(self) -> bool:
        return self.name.endswith(", 3>")


@pytest.fixture(
    scope="module",
    params=[("90",), pytest.param(("80", "90"), marks=pytest.mark.slow)],
    ids="-".join,
)
def architectures(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return tuple(request.param)


@pytest.fixture(scope="module")
def built(request: pytest.FixtureRequest, architectures: tuple[str, ...]) -> Path:
    """A folder with the library and the assembler's log; rebuilt only if a source changed."""
    recipe = build.cuda_recipe(architectures)
    recipe = replace(recipe, flags=(*recipe.flags, "-Xptxas=-v"))
    folder = request.config.cache.mkdir("cuda_build") / recipe.folder.name
    with folder.with_suffix(".lock").open("w") as handle:  # other workers of the run wait
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not folder.exists():
            part = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
            result = build.compile_in(part, recipe)
            assert result.returncode == 0, result.stdout[-3000:]
            (part / "log").write_text(result.stdout + result.stderr)
            part.rename(folder)
    return folder


@pytest.fixture(scope="module")
def kernels(built: Path) -> list[Kernel]:
    return kernels_of((built / "log").read_text())


@pytest.fixture(scope="module")
def kernels_by_architecture(
    kernels: list[Kernel], architectures: tuple[str, ...]
) -> dict[str, list[Kernel]]:
    return {a: [kernel for kernel in kernels if kernel.architecture == a] for a in architectures}


def kernels_of(log: str) -> list[Kernel]:
    """The kernels in the assembler's report."""
    entries = re.findall(
        r"Compiling entry function '(\w+)' for 'sm_(\d+)'.*?(\d+) bytes stack frame, "
        r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers",
        log,
        re.DOTALL,
    )
    names = "\n".join(symbol for symbol, *_ in entries)
    demangled = subprocess.run(["c++filt"], input=names, capture_output=True, text=True, check=True)
    return [
        Kernel(
            re.sub(r"^void |dcnv3::cuda::|\(.*", "", name),
            architecture,
            int(registers),
            int(stack),
            max(int(stores), int(loads)),
        )
        for name, (_, architecture, stack, stores, loads, registers) in zip(
            demangled.stdout.splitlines(), entries, strict=True
        )
    ]


def test_no_warning(built: Path) -> None:
    assert "warning" not in (built / "log").read_text()


def test_the_number_of_kernels_is_limited(
    kernels_by_architecture: dict[str, list[Kernel]],
) -> None:
    """Compile time grows with it."""
    for kernels in kernels_by_architecture.values():
        ours = [kernel.name for kernel in kernels]
        assert len(ours) == len(set(ours))
        for name in (
            "forward_kernel<float, 4, 2, 3>",
            "forward_kernel<Half, 8, 2, 5>",
            "grad_weights_kernel<BFloat16, 8, 2, 7>",
            "grad_weights_kernel<double, 1, 4, 0>",
            "grad_x_kernel<Slice<BFloat16, 4>, 3>",
            "boxes_kernel<float, 3>",
        ):
            assert name in ours
        assert len(ours) <= 52


def test_kernels_of_kernel_size_3_use_registers_only(
    kernels_by_architecture: dict[str, list[Kernel]],
) -> None:
    for kernels in kernels_by_architecture.values():
        ours = [kernel for kernel in kernels if kernel.is_for_kernel_3]
        assert len(ours) == 15  # of three types: forward, weights, boxes, and x in two widths
        for kernel in ours:
            assert (kernel.stack_bytes, kernel.spilled_bytes) == (0, 0), kernel
            # Five blocks of 128 threads fit on a multiprocessor; of grad_x, three blocks of 160.
            assert kernel.registers <= (128 if kernel.name.startswith("grad_x") else 96), kernel


def test_all_kernels_spill_at_most_32_bytes(kernels: list[Kernel]) -> None:
    for kernel in kernels:
        assert kernel.spilled_bytes <= 32, kernel
        assert kernel.registers <= 168, kernel


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["100", "120"])
def test_newer_architectures_spill_little(tmp_path: Path, architecture: str) -> None:
    """They are not in a release's library; a user's build has them."""
    known = subprocess.run([NVCC, "--list-gpu-code"], capture_output=True, text=True, check=True)
    if f"sm_{architecture}" not in known.stdout.split():
        pytest.skip(f"this nvcc does not compile for sm_{architecture}")
    for source in ("float_backward.cu", "half_backward.cu", "bfloat16_backward.cu"):
        command = [NVCC, "-std=c++17", "-O3", f"-arch=sm_{architecture}", f"-I{build.SOURCES}"]
        command += ["-Xptxas=-v", "-cubin", str(build.SOURCES / "cuda" / source)]
        command += ["-o", str(tmp_path / "out")]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        compiled = kernels_of(result.stderr + result.stdout)
        assert len([kernel for kernel in compiled if kernel.name.startswith("grad_x")]) == 4
        for kernel in compiled:
            most = 0 if kernel.name.startswith("grad_x") else 32
            assert kernel.spilled_bytes <= most, kernel


@pytest.mark.parametrize(
    ("source", "kernel"),
    [
        ("float_forward.cu", "forward_kernelIfLi4ELi2ELi3E"),
        ("bfloat16_forward.cu", "forward_kernelINS0_8BFloat16ELi8ELi2ELi3E"),
        ("half_forward.cu", "forward_kernelINS0_4HalfELi8ELi2ELi3E"),
    ],
)
def test_neighbors_are_read_by_128_bits(tmp_path: Path, source: str, kernel: str) -> None:
    body = ptx(tmp_path, source, kernel)
    points, neighbors, packs = 9, 4, 2
    loads = re.findall(r"ld\.global\.nc\.v4\.\w32", body)
    assert len(loads) == points * neighbors * packs
    assert "local" not in body


def test_grid_points_of_kernel_size_3_are_constants(tmp_path: Path) -> None:
    """Computed for each point, they were a sixth of a writing warp's instructions."""
    kernel = "grad_x_kernelINS0_5SliceINS0_8BFloat16ELi4EEELi3E"
    body = ptx(tmp_path, "bfloat16_backward.cu", kernel)
    assert len(re.findall(r"mul\.hi|div\.|rem\.", body)) <= 9


def ptx(tmp_path: Path, source: str, kernel: str) -> str:
    """The PTX code of the one kernel whose mangled name contains `kernel`."""
    out = tmp_path / "out.ptx"
    command = [NVCC, "-std=c++17", "-O3", "-arch=compute_90", f"-I{build.SOURCES}"]
    command += ["-ptx", str(build.SOURCES / "cuda" / source), "-o", str(out)]
    subprocess.run(command, check=True)
    (body,) = re.findall(
        rf"\.entry \w*{kernel}\w*\(.*?^}}", out.read_text(), re.DOTALL | re.MULTILINE
    )
    return body


# Calls the CUDA kernels with CPU tensors: they reach their own first check and raise.
LOAD = """
import sys
import torch
import cuda_ops.ops

torch.ops.load_library(sys.argv[1])
key = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
x, offset, mask = torch.randn(1, 4, 4, 16), torch.randn(1, 4, 4, 18), torch.randn(1, 4, 4, 9)
args = tuple(cuda_ops.ConvArgs(1))
for name, arguments in (
    ("dcnv3", (x, offset, mask, *args)),
    ("dcnv3_backward", (x, x, offset, mask, *args, True, True, True)),
):
    try:
        getattr(torch.ops.archsearch, name).default.redispatch(key, *arguments)
    except RuntimeError as error:
        assert "not on one CUDA device" in str(error), error
    else:
        raise AssertionError(name)
"""


def test_the_library_loads_and_accepts_the_operators_arguments(built: Path) -> None:
    """This works in a torch without CUDA too."""
    (library,) = built.glob("*.so")
    command = [sys.executable, "-c", LOAD, str(library)]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
