"""Builds the emulated kernels through the project's own build module, and loads them."""

from __future__ import annotations

import ctypes
import functools
import platform
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import cuda_ops.ops  # noqa: F401  defines the operators
from cuda_ops import build, native
from cuda_ops.build import TORCH, Recipe
from tests.cuda_emulator.rewrite import rewritten, source_texts, write_sources

HERE = Path(__file__).parent
FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-fPIC", f"-I{HERE}")
CORE = ("fiber.cpp", "runtime.cpp", "scheduler.cpp")

MISSING = (
    "no g++"
    if shutil.which("g++") is None
    else "its fibers are written for x86-64"
    if platform.machine() != "x86_64"
    else None
)
"""Why the kernels cannot be emulated here, or None."""

MULTIPROCESSOR_BYTES = {"sm_80": 164 << 10, "sm_89": 100 << 10, "sm_90": 228 << 10}
"""Shared memory by device; it determines the tiles. A block can have 1 KiB less."""

ORDERS = ("first", "last", "random")

_OPERATORS = ("dcnv3", "dcnv3_backward")


class Settings(ctypes.Structure):
    """`Settings` of emulator.h."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("order", "seed", "poison", "reverse_blocks"),
            *("multiprocessor_bytes", "reserved_bytes", "block_bytes", "max_slots", "max_turns"),
            *("defective_lane", "count_reads"),
        )
    )


class Counts(ctypes.Structure):
    """`Counts` of emulator.h."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("launches", "blocks", "threads", "turns", "barriers", "warp_syncs", "collectives"),
            *("slowest_warp_syncs", "largest_shared_bytes", "block_sectors", "launch_sectors"),
        )
    )


def settings(
    *,
    order: str = "first",
    seed: int = 1,
    poison: int = 0xFF,
    reverse_blocks: bool = False,
    device: str = "sm_90",
    max_slots: int = (1 << 31) - 128,
    max_turns: int = 1 << 26,
    defective_lane: int = -1,
    count_reads: bool = False,
) -> Settings:
    """The settings of a run; `emulator.h` explains each."""
    shared = MULTIPROCESSOR_BYTES[device]
    return Settings(
        ORDERS.index(order), seed, poison, reverse_blocks, shared, 1 << 10, shared - 1024,
        max_slots, max_turns, defective_lane, count_reads,
    )  # fmt: skip


def find_gcc() -> tuple[str, ...]:
    """The compiler of every recipe here."""
    return ("g++",)


def core_recipe(*defines: str) -> Recipe:
    """The recipe of the scheduler, which is compiled without sanitizers."""
    return Recipe(
        backend="-".join(("emulator-core", *(define.lower() for define in defines))),
        find_compiler=find_gcc,
        sources=tuple(HERE / name for name in CORE),
        # Its inline functions stay its own: those of the kernels may be instrumented.
        flags=(*FLAGS, "-O2", "-g1", "-fvisibility-inlines-hidden", *(f"-D{d}" for d in defines)),
        link_flags=("-shared",),
    )


def linked_to(core: Path) -> tuple[str, ...]:
    """Linker flags for a library or program on the scheduler."""
    return (str(core), f"-Wl,-rpath,{core.parent}")


def kernel_recipe(sources: Path, core: Path) -> Recipe:
    """The recipe of the kernels with the project's own registration, from rewritten sources."""
    return Recipe(
        backend="emulator",
        find_compiler=find_gcc,
        sources=(*sorted(sources.glob("cuda/*.cu.cpp")), sources / "cuda/register.cpp"),
        flags=(
            *(*FLAGS, "-O1", "-fvisibility=hidden", f"-I{sources}"),
            *(*build.ABI_FLAGS, f"-isystem{TORCH / 'include'}"),
        ),
        link_flags=(
            *("-shared", *linked_to(core)),
            *(f"-L{TORCH / 'lib'}", "-ltorch_cpu", f"-Wl,-rpath,{TORCH / 'lib'}"),
        ),
    )


class Emulator:
    """The loaded library: the operators `archsearch_emulator::dcnv3` and `dcnv3_backward`."""

    def __init__(self, cache: Path, texts: dict[Path, str] | None = None) -> None:
        """Builds and loads `texts`, by default the project's sources; `cache` keeps the result."""
        core = build.build(core_recipe())
        sources = write_sources(rewritten(texts or source_texts()), cache)
        self._library = torch.library.Library("archsearch_emulator", "DEF")  # type: ignore[no-untyped-call]
        for name in _OPERATORS:
            schema = str(getattr(torch.ops.archsearch, name).default._schema)
            self._library.define(schema.partition("::")[2])  # type: ignore[no-untyped-call]
        self._core = ctypes.CDLL(str(core))
        self.path = build.build(kernel_recipe(sources, core))
        torch.ops.load_library(self.path)  # type: ignore[no-untyped-call]

    def set(self, values: Settings) -> None:
        """Starts a new device with these settings."""
        self._core.emulator_set(ctypes.byref(values))

    def take_counts(self) -> dict[str, int]:
        """What ran since the last call, by the names of `Counts`."""
        counts = Counts()
        self._core.emulator_take_counts(ctypes.byref(counts))
        return {name: getattr(counts, name) for name, *_ in Counts._fields_}


@functools.cache
def load(cache: Path) -> Emulator:
    """The emulator of the project's sources, once per process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))  # the build module's own, for users
        return Emulator(cache)


@contextmanager
def emulated(emulator: Emulator, values: Settings | None = None) -> Iterator[None]:
    """Calls of `dcnv3` on CPU tensors run the emulated CUDA kernels, below torch's dispatcher.

    Schema, autograd and the public function are the project's own.
    """
    emulator.set(values or settings())
    library = torch.library.Library("archsearch", "IMPL")  # type: ignore[no-untyped-call]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(native._errors, "cpu", None)  # a library loaded later would take the calls
        for name in _OPERATORS:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Warning only once for all operators")
                kernel = getattr(torch.ops.archsearch_emulator, name).default
                library.impl(name, kernel, "CPU", allow_override=True)  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            library._destroy()  # type: ignore[no-untyped-call]
