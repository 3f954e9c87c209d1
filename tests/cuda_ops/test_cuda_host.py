"""Functions of numbers in the CUDA kernels, compiled for the host.

`tests/cuda_emulator` runs the kernels themselves.
"""

from __future__ import annotations

import ctypes
import math
from pathlib import Path

import pytest
import torch

from cuda_ops import build
from cuda_ops.build import Recipe
from tests.cuda_emulator.library import FLAGS, MISSING, find_gcc
from tests.cuda_emulator.rewrite import source_texts, write_sources

CODES = {torch.float16: 1, torch.bfloat16: 2}

pytestmark = pytest.mark.skipif(MISSING == "no g++", reason="no g++")


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> ctypes.CDLL:
    cache = request.config.cache.mkdir("cuda_emulator")
    recipe = Recipe(
        backend="cuda-host",
        find_compiler=find_gcc,
        sources=(Path(__file__).with_name("cuda_host.cpp"),),
        # The folder of headers is named by their content, which the recipe's digest leaves out.
        flags=(*FLAGS, "-Werror", "-O1", f"-I{write_sources(source_texts(), cache)}"),
        link_flags=("-shared",),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        loaded = ctypes.CDLL(str(build.build(recipe)))
    loaded.dcnv3_round_trip.restype = ctypes.c_float
    loaded.dcnv3_quotient.restype = ctypes.c_uint32
    return loaded


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
