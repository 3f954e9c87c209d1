"""The CUDA kernels without a GPU: their bodies, plans and tiles run on the host.

The results are compared with the definition in float64. `cuda_host.cpp` says what this covers and
what needs a GPU.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import math
import mmap
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cuda_ops import ConvArgs
from tests.cuda_ops.op_cases import (
    CASES,
    LARGER_CASES,
    TOLERANCE,
    Case,
    distance,
    expected,
    reference,
)

SOURCES = Path(__file__).parents[2] / "cuda_ops" / "csrc"
CODES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.float64: 3}
ALL_SLOTS = 1 << 31
SHARED_BYTES = {"sm_89": 100 << 10, "sm_80": 164 << 10, "sm_90": 228 << 10}  # determines the tiles
RESULTS = ("output", "grad_x", "grad_offset", "grad_mask")

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")


class Geometry(ctypes.Structure):
    """`Geometry` of geometry.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n", "h", "w", "ho", "wo")),
        *((name, ctypes.c_int64) for name in ("groups", "group_channels")),
        *((name, ctypes.c_int64) for name in ("offset_stride", "mask_stride")),
        *((name, ctypes.c_int) for name in ("kernel", "stride", "pad", "dilation", "points")),
        *((name, ctypes.c_bool) for name in ("remove_center", "softmax")),
        ("offset_scale", ctypes.c_double),
    )


class Tensors(ctypes.Structure):
    """`Tensors` of call.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "offset", "mask", "grad")),
        *((name, ctypes.c_void_p) for name in ("output", "grad_x", "grad_offset", "grad_mask")),
        ("float_weights", ctypes.c_bool),
    )


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> ctypes.CDLL:
    """The bodies as a library, recompiled only if a source changed."""
    driver = Path(__file__).with_name("cuda_host.cpp")
    files = sorted([*SOURCES.glob("cuda/*"), SOURCES / "geometry.h", driver])
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
    library = request.config.cache.mkdir("cuda_host") / f"{digest[:16]}.so"
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command += ["-Wno-unknown-pragmas", f"-I{SOURCES}", str(driver), "-o"]
    with library.with_suffix(".lock").open("w") as handle:  # other workers of the run wait
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not library.exists():
            part = library.with_suffix(".part")
            subprocess.run([*command, str(part)], check=True)
            part.rename(library)
    return load(str(library))


def load(library: str) -> ctypes.CDLL:
    loaded = ctypes.CDLL(library)
    loaded.dcnv3_run.restype = ctypes.c_char_p
    loaded.dcnv3_round_trip.restype = ctypes.c_float
    loaded.dcnv3_quotient.restype = ctypes.c_uint32
    return loaded


def run(
    host: ctypes.CDLL,
    case: Case,
    inputs: list[Tensor],
    *,
    wanted: tuple[str, ...] = RESULTS,
    max_slots: int = ALL_SLOTS,
    device: str = "sm_90",
    allocate: Callable[[Tensor], Tensor] = torch.clone,
) -> list[Tensor]:
    """The output and gradients. `allocate` copies each result's initial NaNs to its memory.

    A NaN in a result shows an element that was not written.
    """
    x, offset, mask, grad = inputs
    args = case.args
    likes = dict(zip(RESULTS, (grad, x, offset, mask), strict=True))
    results = {
        name: allocate(torch.full(likes[name].shape, math.nan, dtype=likes[name].dtype))
        for name in wanted
    }
    geometry = Geometry(
        *x.shape[:3],
        *offset.shape[1:3],
        *(args.groups, case.group_channels, offset.stride(2), mask.stride(2)),
        *(args.kernel_size, args.stride, args.padding, args.dilation, args.num_points),
        *(args.remove_center, args.softmax, args.offset_scale),
    )
    tensors = Tensors(
        *(tensor.data_ptr() for tensor in inputs),
        float_weights=offset.dtype == torch.float32,
        **{name: tensor.data_ptr() for name, tensor in results.items()},
    )
    error = host.dcnv3_run(
        CODES[x.dtype],
        ctypes.byref(geometry),
        ctypes.byref(tensors),
        ctypes.c_int64(max_slots),
        ctypes.c_int64(SHARED_BYTES[device]),
    )
    assert error is None, error.decode()
    return list(results.values())


def assert_close(got: Sequence[Tensor], wanted: Sequence[Tensor], tolerance: float) -> None:
    for ours, theirs in zip(got, wanted, strict=True):
        assert not ours.isnan().any(), f"not all written: {tuple(ours.shape)}"
        assert distance(ours, theirs) <= tolerance, tuple(ours.shape)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("name", CASES)
def test_kernel_bodies_equal_the_loops(host: ctypes.CDLL, name: str, dtype: torch.dtype) -> None:
    assert_close(
        run(host, CASES[name], CASES[name].tensors(dtype)), expected(name), TOLERANCE[dtype]
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LARGER_CASES)
def test_plans_for_large_calls_are_correct(
    host: ctypes.CDLL, name: str, dtype: torch.dtype
) -> None:
    case = LARGER_CASES[name]
    inputs = case.tensors(dtype)
    wanted = reference(case, inputs[:3], inputs[3])
    # Sums of hundreds of channels have more rounding errors, of larger values.
    assert_close(run(host, case, inputs), wanted, 4 * TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["tiles by rows", "tiles by rows and columns", "tiles, kernel 5"])
def test_a_gradient_does_not_depend_on_the_tiles(host: ctypes.CDLL, name: str) -> None:
    case = LARGER_CASES[name]
    inputs = case.tensors(torch.float32)
    (one,), *others = (
        run(host, case, inputs, wanted=("grad_x",), device=device) for device in SHARED_BYTES
    )
    assert all(torch.equal(one, other) for (other,) in others)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["softmax", "16 channels a group", "kernel 5", "kernel 2"])
def test_float32_offsets_and_masks_for_a_half_x(
    host: ctypes.CDLL, name: str, dtype: torch.dtype
) -> None:
    case = CASES[name]
    x, offset, mask, grad = case.tensors(torch.float32)
    got = run(host, case, [x.to(dtype), offset, mask, grad.to(dtype)])
    assert_close(got[:2], expected(name)[:2], TOLERANCE[dtype])
    assert_close(got[2:], expected(name)[2:], TOLERANCE[torch.float32])


@pytest.mark.parametrize("name", ["all at once", "16 channels a group", "softmax"])
def test_a_call_split_into_launches_is_the_same(host: ctypes.CDLL, name: str) -> None:
    """A launch numbers its threads with 32 bits; a larger call is split by output rows."""
    case = CASES[name]
    inputs = case.tensors(torch.float32)
    whole, split = run(host, case, inputs), run(host, case, inputs, max_slots=40)
    for one, other in zip(whole, split, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_offset_and_mask_may_be_views_of_one_projection(
    host: ctypes.CDLL, dtype: torch.dtype
) -> None:
    case = Case(ConvArgs(2, softmax=True), group_channels=16)
    x, offset, mask, grad = case.tensors(dtype)
    merged = torch.full((*offset.shape[:3], 64), math.nan, dtype=dtype)
    merged[..., 2:38], merged[..., 41:59] = offset, mask
    copies = run(host, case, [x, offset, mask, grad])
    views = run(host, case, [x, merged[..., 2:38], merged[..., 41:59], grad])
    for one, other in zip(copies, views, strict=True):
        assert torch.equal(one, other)


def test_accesses_stay_within_memory_and_alignment(host: ctypes.CDLL) -> None:
    """It runs in a separate process, because an access beyond the memory kills the process."""
    command = [sys.executable, "-m", "tests.cuda_ops.test_cuda_host", host._name]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def check_memory_accesses(host: ctypes.CDLL) -> None:
    for name in ("plain", "softmax", "all at once", *(n for n in CASES if "channels" in n)):
        for dtype in (torch.float32, torch.bfloat16):
            print(name, dtype, flush=True)
            inputs = [before_a_guard_page(tensor) for tensor in CASES[name].tensors(dtype)]
            got = run(host, CASES[name], inputs, allocate=before_a_guard_page)
            assert_close(got, expected(name), TOLERANCE[dtype])
    print("a pointer without the alignment of vectors", flush=True)
    name = "16 channels a group"
    x, *others = CASES[name].tensors(torch.float32)
    moved = torch.empty(x.numel() + 1)[1:].view(x.shape).copy_(x)
    assert moved.data_ptr() % 16
    assert_close(run(host, CASES[name], [moved, *others]), expected(name), TOLERANCE[torch.float32])


def before_a_guard_page(tensor: Tensor) -> Tensor:
    """A copy whose last byte is followed by a page that cannot be accessed."""
    page, size = mmap.PAGESIZE, tensor.numel() * tensor.element_size()
    length = -(-size // page) * page
    memory = mmap.mmap(-1, length + page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(start + length), ctypes.c_size_t(page), 0) == 0
    offset = length - size
    return (
        torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=offset)
        .view(tensor.shape)
        .copy_(tensor)
    )


@pytest.mark.parametrize("wanted", RESULTS)
@pytest.mark.parametrize("name", ["softmax", "kernel 5", "all at once"])
def test_each_result_alone(host: ctypes.CDLL, name: str, wanted: str) -> None:
    inputs = CASES[name].tensors(torch.float32)
    everything = dict(zip(RESULTS, run(host, CASES[name], inputs), strict=True))
    (alone,) = run(host, CASES[name], inputs, wanted=(wanted,))
    assert torch.equal(alone, everything[wanted])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 56])
def test_positions_are_resolved_as_in_geometry_h(host: ctypes.CDLL, size: int) -> None:
    near = torch.linspace(-3, size + 2, 16 * (size + 5) + 1).tolist()
    edges = [math.nextafter(p, q) for p in range(-2, size + 2) for q in (-math.inf, math.inf)]
    far = [
        sign * value for sign in (-1, 1) for value in (0.0, 4e6, 5e6, 1.3e7, 1e10, 3e38, math.inf)
    ]
    ours, wanted = (ctypes.c_float * 5)(), (ctypes.c_float * 5)()
    for position in (*near, *edges, *far):
        host.dcnv3_axis(ctypes.c_float(position), ctypes.c_int64(size), ours, wanted)
        for value, expected_value in zip(ours, wanted, strict=True):
            # A neighbor's weight may differ in the last place; cells and slopes may not.
            assert abs(value - expected_value) <= 6e-8, (position, list(ours), list(wanted))


def test_a_nan_position_gives_nan_results(host: ctypes.CDLL) -> None:
    case = CASES["16 channels a group"]
    x, offset, mask, grad = case.tensors(torch.float32)
    offset[0, 1, 2, 5], offset[0, 0, 0, 4] = math.nan, math.inf
    output, grad_x, *_ = run(host, case, [x, offset, mask, grad])
    assert output[0, 1, 2, :16].isnan().all()
    assert output.isnan().sum() == 16
    assert grad_x.isnan().any()


def test_division_by_multiplication(host: ctypes.CDLL) -> None:
    last = (1 << 31) - 1
    numbers = [0, 1, 2, 3, 6, 7, 55, 56, 57, 3135, 3136, 10**6, last - 1, last]
    divisors = [*range(1, 70), 3136, 44489, 65535, 65536, 65537, 10**9, (1 << 30) + 1, last]
    for divisor in divisors:
        near = (k * divisor + d for k in (1, 2, 37, last // divisor) for d in (-1, 0, 1))
        for n in {*numbers, *near}:
            if n <= last:
                got = host.dcnv3_quotient(ctypes.c_uint32(n), ctypes.c_int64(divisor))
                assert got == n // divisor, (n, divisor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_round_as_torch_does(host: ctypes.CDLL, dtype: torch.dtype) -> None:
    largest, step = float(torch.finfo(dtype).max), float(torch.finfo(dtype).eps)
    exponents = torch.arange(-30.0, 20.0)
    values = (2.0**exponents * torch.linspace(1, 2, 40)[:, None]).flatten().tolist()
    values += [1 + k * step / 2 for k in (1, 3, 5)]  # halfway: rounds to the even neighbor
    values += [0.0, largest, largest * 1.0001, math.inf, 65519.9, 65520.0, 5.96e-8, 2.98e-8, 2.9e-8]
    for value in (v for positive in values for v in (positive, -positive)):
        got = host.dcnv3_round_trip(CODES[dtype], ctypes.c_float(value))
        assert got == float(torch.tensor(value, dtype=torch.float32).to(dtype)), value
    assert math.isnan(host.dcnv3_round_trip(CODES[dtype], ctypes.c_float(math.nan)))


if __name__ == "__main__":
    check_memory_accesses(load(sys.argv[1]))
