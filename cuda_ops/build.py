"""Compiles the native backends with ninja, once per source, compiler flags, torch and processor.

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
    processor,
    processor_flags,
)

SOURCES = Path(__file__).parent / "csrc"
TORCH = Path(torch.__file__).parent
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
        """Of everything that changes the library, architectures apart."""
        sha = hashlib.sha256()
        for folder in sorted({SOURCES, *(source.parent for source in self.sources)}):
            for path in sorted({*self.sources, *folder.glob("*.h"), *folder.glob("*.cuh")}):
                sha.update(path.name.encode() + b"\0" + path.read_bytes())
        about = (self.flags, self.link_flags, torch.__version__, processor())
        sha.update(repr(about).encode())
        return sha.hexdigest()[:16]

    @property
    def compiler(self) -> str:
        """Raises BuildError where there is none."""
        return self.find_compiler()

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
        """The library if it is in the cache; one for more architectures will do as well."""
        for path in sorted(cache_root().glob(f"{self.backend}-{self.digest}*/{self.library.name}")):
            built = path.parent.name.partition("-sm")[2].split("_")
            if set(self.architectures) <= set(built):
                return path
        return None


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
    wanted = tuple(sorted(set(architectures or visible_architectures())))
    if not wanted:
        raise BuildError("no GPU is visible; name its compute capability, e.g. --arch 90")
    wrong = [name for name in wanted if not re.fullmatch(r"\d{2,3}[af]?", name)]
    if wrong:
        raise BuildError(f"--arch: wanted compute capabilities such as 80,90, got {wrong}")
    gencode = tuple(f"-gencode=arch=compute_{name},code=sm_{name}" for name in wanted)
    return Recipe(
        backend="cuda",
        find_compiler=find_nvcc,
        sources=sources,
        flags=(
            "-std=c++17",
            "-O3",
            "-Xcompiler=-fPIC",
            *gencode,
            *ABI_FLAGS,
            f"-I{SOURCES}",
            f"-I{TORCH / 'include'}",
        ),
        link_flags=(
            "-shared",
            "-cudart=static",
            *gencode,
            f"-L{TORCH / 'lib'}",
            # libtorch.so brings libtorch_cuda.so where torch has one, and loads without it too.
            "-Xlinker=--no-as-needed",
            "-ltorch",
            "-ltorch_cpu",
            f"-Xlinker=-rpath={TORCH / 'lib'}",
        ),
        architectures=wanted,
    )


def visible_architectures() -> tuple[str, ...]:
    """Compute capabilities of the GPUs that torch sees, e.g. ("90",)."""
    if not torch.cuda.is_available():
        return ()
    capabilities = (torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count()))
    return tuple(f"{major}{minor}" for major, minor in sorted(set(capabilities)))


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
        raise BuildError("the compiler failed:\n" + _told(result.stdout + result.stderr))
    for leftover in part.glob("*.o"):
        leftover.unlink()
    part.rename(recipe.folder)
    seconds = time.perf_counter() - started
    print(f"{seconds:.1f} s (kept in {recipe.folder})", file=sys.stderr)


def _told(output: str) -> str:
    """From the first line that names an error, or the last lines: other compilers talk between."""
    lines = output.strip().splitlines()
    errors = [i for i, line in enumerate(lines) if "error" in line.lower()]
    start = errors[0] if errors else max(0, len(lines) - NUM_ERROR_LINES)
    return "\n".join(lines[start : start + NUM_ERROR_LINES])


def ninja_file(recipe: Recipe) -> str:
    """Ninja's input: one object per source, and the library."""
    flags, link_flags = _shell(recipe.flags), _shell(recipe.link_flags)
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
