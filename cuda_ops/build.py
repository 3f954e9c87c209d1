"""Compiles the native backends with ninja, once per source, compiler flags and torch; the CPU
backend once per kind of processor too, the CUDA one once per set of compute capabilities.

Nothing here runs at import. A library is built in a folder of its own and renamed into the cache
when it is whole, under a file lock that the system releases with the process, so a killed build
leaves nothing that a later one waits for or trusts.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from cuda_ops.toolchain import (
    BuildError,
    find_compiler,
    find_ninja,
    find_nvcc,
    nvcc_release,
    processor,
    processor_flags,
)

SOURCES = Path(__file__).parent / "csrc"
TORCH = Path(torch.__file__).parent
LEAST_CAPABILITY = (8, 0)  # csrc/cuda/numeric.cuh refuses older ones
ABI_FLAGS = ("-DTORCH_TARGET_VERSION=0x020a000000000000",)  # LibTorch's stable ABI as of 2.10
NUM_ERROR_LINES = 15


@dataclass(frozen=True)
class Recipe:
    """What a library is built from, and where it goes."""

    backend: str
    find_compiler: Callable[[], str]  # only asked where there is something to build
    sources: tuple[Path, ...]
    flags: tuple[str, ...]
    link_flags: tuple[str, ...]
    architectures: tuple[str, ...] = ()  # compute capabilities such as "90"; CUDA only

    @functools.cached_property
    def digest(self) -> str:
        """Of everything that changes the library, architectures apart.

        The processor is part of it for the CPU backend alone: CUDA kernels are the same on all.
        """
        sha = hashlib.sha256()
        for folder in sorted({SOURCES, *(source.parent for source in self.sources)}):
            for path in sorted({*self.sources, *folder.glob("*.h"), *folder.glob("*.cuh")}):
                sha.update(path.name.encode() + b"\0" + path.read_bytes())
        machine = processor() if self.backend == "cpu" else ""
        about = (self.flags, self.link_flags, torch.__version__, machine)
        sha.update(repr(about).encode())
        return sha.hexdigest()[:16]

    @property
    def compiler(self) -> str:
        """Raises BuildError where there is none."""
        return self.find_compiler()

    @property
    def gencode(self) -> tuple[str, ...]:
        """nvcc's flags for the architectures, for compiling and linking."""
        return tuple(f"-gencode=arch=compute_{a},code=sm_{a}" for a in self.architectures)

    @property
    def folder(self) -> Path:
        suffix = "-sm" + "_".join(self.architectures) if self.architectures else ""
        return cache_root() / f"{self.backend}-{self.digest}{suffix}"

    @property
    def part_prefix(self) -> str:
        """Of folders that are still being built in: `find_built` has to pass them over."""
        return f"part-{self.folder.name}-"

    @property
    def library(self) -> Path:
        return self.folder / f"dcnv3_{self.backend}.so"

    def find_built(self) -> Path | None:
        """The library if it is in the cache; another that runs on all its architectures will do."""
        usable = []
        for path in sorted(cache_root().glob(f"{self.backend}-{self.digest}*/{self.library.name}")):
            built = path.parent.name.partition("-sm")[2].split("_")
            if all(any(runs_on(code, wanted) for code in built) for wanted in self.architectures):
                usable.append((not set(self.architectures) <= set(built), path))
        return min(usable, default=(False, None))[1]  # compiled for just these, if there is one


def runs_on(code: str, wanted: str) -> bool:
    """Whether code built for one compute capability runs on a GPU of another.

    Code of 8.0 runs on 8.6 and 8.9, not on 9.0; that of 90a or 100f is not taken for anything else.
    """
    if code == wanted:
        return True
    plain = code.isdecimal() and wanted.isdecimal()
    return plain and code[:-1] == wanted[:-1] and int(code[-1]) <= int(wanted[-1])


def cache_root() -> Path:
    """Where built libraries are kept: under XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "archsearch" / "cuda_ops"


def cpu_recipe() -> Recipe:
    """The CPU backend for this processor."""
    return Recipe(
        backend="cpu",
        find_compiler=find_compiler,
        sources=tuple(sorted(SOURCES.glob("cpu*.cpp"))),
        flags=(
            "-std=c++17",
            "-O3",
            *processor_flags(),
            # Loops vectorise without errno and traps; NaN and infinity keep their meaning.
            "-fno-math-errno",
            "-fno-trapping-math",
            "-ffp-contract=fast",
            "-fPIC",
            "-fvisibility=hidden",
            *ABI_FLAGS,
            f"-I{TORCH / 'include'}",
        ),
        link_flags=("-shared", f"-L{TORCH / 'lib'}", "-ltorch_cpu", f"-Wl,-rpath,{TORCH / 'lib'}"),
    )


def cuda_recipe(architectures: tuple[str, ...] | None = None) -> Recipe:
    """The CUDA backend for compute capabilities such as ("80", "90"); None: the visible GPUs.

    No GPU is needed where they are named. Raises BuildError where there is nothing to build for.
    """
    sources = (*sorted(SOURCES.glob("cuda/*.cu")), *sorted(SOURCES.glob("cuda/register*.cpp")))
    if not sources:
        raise BuildError("this installation has no CUDA sources (csrc/cuda is empty)")
    return Recipe(
        backend="cuda",
        find_compiler=find_usable_nvcc,
        sources=sources,
        flags=(
            "-std=c++17",
            "-O3",
            "-Xcompiler=-fPIC",
            *ABI_FLAGS,
            f"-I{SOURCES}",
            f"-I{TORCH / 'include'}",
        ),
        link_flags=(
            "-shared",
            "-cudart=static",
            f"-L{TORCH / 'lib'}",
            # libtorch.so brings libtorch_cuda.so where torch has one, and loads without it too.
            "-Xlinker=--no-as-needed",
            "-ltorch",
            "-ltorch_cpu",
            f"-Xlinker=-rpath={TORCH / 'lib'}",
        ),
        architectures=_named(architectures) if architectures else visible_architectures(),
    )


def _named(architectures: tuple[str, ...]) -> tuple[str, ...]:
    """What --arch names, in order and once each. Raises BuildError for what no kernel runs on."""
    wrong = [name for name in architectures if not re.fullmatch(r"\d{2,3}[af]?", name)]
    if wrong:
        raise BuildError(f"--arch: wanted compute capabilities such as 80,90, got {wrong}")
    old = [name for name in architectures if int(name.rstrip("af")) < _as_number(LEAST_CAPABILITY)]
    if old:
        raise BuildError(f"--arch: wanted compute capabilities of 80 or higher, got {old}")
    return tuple(sorted(set(architectures)))


def visible_architectures() -> tuple[str, ...]:
    """Compute capabilities of the GPUs that torch sees, e.g. ("90",); too old ones are left out.

    Raises BuildError where none is left.
    """
    seen = sorted(set(visible_capabilities()))
    usable = [capability for capability in seen if capability >= LEAST_CAPABILITY]
    if not seen:
        raise BuildError("no GPU is visible; name its compute capability, e.g. --arch 90")
    if not usable:
        raise BuildError(
            f"the CUDA kernels need a GPU of compute capability {in_words(LEAST_CAPABILITY)} or "
            f"higher, and those that are visible have {', '.join(map(in_words, seen))}"
        )
    return tuple(str(_as_number(capability)) for capability in usable)


def visible_capabilities() -> list[tuple[int, int]]:
    """Per GPU that torch sees, in its order, e.g. (9, 0)."""
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())]


def _as_number(capability: tuple[int, int]) -> int:
    return 10 * capability[0] + capability[1]


def in_words(capability: tuple[int, int]) -> str:
    """As NVIDIA writes it, e.g. 9.0."""
    return f"{capability[0]}.{capability[1]}"


def find_usable_nvcc() -> str:
    """nvcc's path. Raises BuildError where torch's driver could not run what it compiles.

    The library brings nvcc's own CUDA runtime. A driver runs a runtime of its own major version or
    an older one, and that of the driver is known only from torch's: with a newer nvcc the library
    would build and load, and every launch would fail.
    """
    nvcc = find_nvcc()
    release = nvcc_release(nvcc)
    if torch.version.cuda is not None and _major(release) > _major(torch.version.cuda):
        raise BuildError(
            f"{nvcc} is of CUDA {release} and this torch of CUDA {torch.version.cuda}: install the "
            f"CUDA {_major(torch.version.cuda)} toolkit and name its folder in CUDA_HOME, or a "
            f"torch for CUDA {_major(release)}"
        )
    return nvcc


def _major(release: str) -> int:
    return int(release.partition(".")[0])


def build(recipe: Recipe) -> Path:
    """The library's path, after compiling it if the cache has none.

    Says on stderr, in one line, what is built and the seconds that took. Raises BuildError with
    what the compiler said.
    """
    built = recipe.find_built()
    if built is not None:
        return built
    with _lock(recipe.folder):
        built = recipe.find_built()
        if built is not None:
            return built
        for stale in recipe.folder.parent.glob(f"{recipe.part_prefix}*"):
            shutil.rmtree(stale, ignore_errors=True)
        _compile(recipe)
    return recipe.library


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    path = folder.with_name(folder.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("w")
    except OSError as error:
        raise BuildError(
            f"the cache folder {path.parent} cannot be written ({error.strerror}); "
            "set XDG_CACHE_HOME to one that can"
        ) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _compile(recipe: Recipe) -> None:
    ninja, rules = find_ninja(), ninja_file(recipe)
    names = " ".join(f"sm_{name}" for name in recipe.architectures)
    print(f"cuda_ops: building the {recipe.backend} backend {names}... ", end="", file=sys.stderr)
    sys.stderr.flush()
    started = time.perf_counter()
    part = Path(tempfile.mkdtemp(prefix=recipe.part_prefix, dir=recipe.folder.parent))
    (part / "build.ninja").write_text(rules)
    # A list of arguments and a folder as the working directory: no path goes through a shell here.
    result = subprocess.run([ninja], cwd=part, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        print("failed", file=sys.stderr)
        shutil.rmtree(part, ignore_errors=True)
        raise BuildError("the compiler failed:\n" + compiler_errors(result.stdout + result.stderr))
    for leftover in part.glob("*.o"):
        leftover.unlink()
    part.rename(recipe.folder)
    seconds = time.perf_counter() - started
    print(f"{seconds:.1f} s (kept in {recipe.folder})", file=sys.stderr)


def compiler_errors(output: str) -> str:
    """From the first line that names an error, or the last lines: other compilers talk between."""
    lines = output.strip().splitlines()
    errors = [i for i, line in enumerate(lines) if "error" in line.lower()]
    start = errors[0] if errors else max(0, len(lines) - NUM_ERROR_LINES)
    return "\n".join(lines[start : start + NUM_ERROR_LINES])


def ninja_file(recipe: Recipe) -> str:
    """Ninja's input: one object per source, and the library."""
    flags = _shell((*recipe.flags, *recipe.gencode))
    link_flags = _shell((*recipe.link_flags, *recipe.gencode))
    compiler = _shell((recipe.compiler,))
    objects = [f"{source.stem}.{source.suffix[1:]}.o" for source in recipe.sources]
    lines = [
        "rule compile",
        f"  command = {compiler} {flags} -c $in -o $out",
        "rule link",
        f"  command = {compiler} $in {link_flags} -o $out",
        *(
            f"build {name}: compile {_ninja(str(source))}"
            for name, source in zip(objects, recipe.sources, strict=True)
        ),
        f"build {recipe.library.name}: link {' '.join(objects)}",
    ]
    return "\n".join(lines) + "\n"


def _shell(arguments: tuple[str, ...]) -> str:
    return shlex.join(arguments).replace("$", "$$")


def _ninja(path: str) -> str:
    return re.sub(r"([$ :])", r"$\1", path)
