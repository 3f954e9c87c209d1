"""Compiles the native backends, once per source, flags, compiler and torch version.

The CPU backend is also compiled once per kind of processor, the CUDA backend once per set of
compute capabilities. Nothing here runs at import. A library is built in a temporary folder and
renamed into the cache when it is complete, under a file lock that the system releases when the
process ends (`cache.py`). So a killed build neither blocks a later one nor leaves a partial library
behind. A library whose checksum differs is not used but built again.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from cuda_ops import cache
from cuda_ops.architectures import checked, find_usable_nvcc, runs_on, visible_architectures
from cuda_ops.cache import cache_root
from cuda_ops.toolchain import (
    BuildError,
    c_library,
    compiler_identity,
    find_compiler,
    find_ninja,
    processor,
    processor_flags,
)

SOURCES = Path(__file__).parent / "csrc"
TORCH = Path(torch.__file__).parent
ABI_FLAGS = ("-DTORCH_TARGET_VERSION=0x020a000000000000",)  # LibTorch's stable ABI as of 2.10
NUM_ERROR_LINES = 15


@dataclass(frozen=True)
class Recipe:
    """What a library is built from, and where it is stored."""

    backend: str
    find_compiler: Callable[[], tuple[str, ...]]  # raises BuildError
    sources: tuple[Path, ...]
    flags: tuple[str, ...]
    link_flags: tuple[str, ...]
    architectures: tuple[str, ...] = ()  # compute capabilities such as "90"; CUDA only

    @functools.cached_property
    def digest(self) -> str:
        """A hash of all that changes the library, except the compiler and the architectures.

        It includes the processor for the CPU backend only: CUDA kernels do not depend on it.
        """
        sha = hashlib.sha256()
        for folder in sorted({SOURCES, *(source.parent for source in self.sources)}):
            for path in sorted({*self.sources, *folder.glob("*.h"), *folder.glob("*.cuh")}):
                sha.update(path.name.encode() + b"\0" + path.read_bytes())
        machine = processor() if self.backend == "cpu" else ""
        values = (self.flags, self.link_flags, torch.__version__, c_library(), machine)
        sha.update(repr(values).encode())
        return sha.hexdigest()[:16]

    @functools.cached_property
    def compiler_digest(self) -> str | None:
        """A hash of the compiler's version and arguments, or None if there is no compiler here."""
        try:
            identity = compiler_identity(self.find_compiler())
        except BuildError:
            return None
        return hashlib.sha256(identity.encode()).hexdigest()[:8]

    @property
    def gencode(self) -> tuple[str, ...]:
        """nvcc's flags for the architectures, used for compiling and linking."""
        return tuple(f"-gencode=arch=compute_{a},code=sm_{a}" for a in self.architectures)

    @property
    def folder(self) -> Path:
        suffix = "-sm" + "_".join(self.architectures) if self.architectures else ""
        return cache_root() / f"{self.backend}-{self.digest}-{self.compiler_digest}{suffix}"

    @property
    def library(self) -> Path:
        return self.folder / f"dcnv3_{self.backend}.so"

    def find_built(self) -> Path | None:
        """A cached library whose code runs on all the recipe's architectures, or None.

        Without a compiler here, that of any compiler is used.
        """
        usable = []
        folders = f"{self.backend}-{self.digest}-{self.compiler_digest or ''}*"
        for path in sorted(cache_root().glob(f"{folders}/{self.library.name}")):
            built = path.parent.name.partition("-sm")[2].split("_")
            runs = all(any(runs_on(code, gpu) for code in built) for gpu in self.architectures)
            if runs and cache.is_intact(path):
                usable.append((not set(self.architectures) <= set(built), path))
        return min(usable, default=(False, None))[1]  # prefer one compiled for exactly these


def cpu_recipe() -> Recipe:
    """The recipe of the CPU backend for this processor."""
    return Recipe(
        backend="cpu",
        find_compiler=find_compiler,
        sources=tuple(sorted(SOURCES.glob("cpu*.cpp"))),
        flags=(
            "-std=c++17",
            "-O3",
            *processor_flags(),
            # Loops vectorize without errno and traps; NaN and infinity keep their meaning.
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
    """The recipe of the CUDA backend for compute capabilities such as ("80", "90").

    None means those of the visible GPUs; named ones need no GPU. Raises BuildError if there is
    nothing to build for.
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
            # libtorch.so loads libtorch_cuda.so if torch has one, and also loads without it.
            "-Xlinker=--no-as-needed",
            "-ltorch",
            "-ltorch_cpu",
            f"-Xlinker=-rpath={TORCH / 'lib'}",
        ),
        architectures=checked(architectures) if architectures else visible_architectures(),
    )


def build(recipe: Recipe) -> Path:
    """The library's path; compiles it first if the cache does not have it undamaged.

    A build prints one line on stderr: the backend and the seconds it took. Raises BuildError with
    the compiler's message, or with the reason why the cache folder cannot be used.
    """
    with cache.explained_errors():
        return recipe.find_built() or _build_locked(recipe, None)


def rebuild(recipe: Recipe, unloadable: Path, *, even_if_rebuilt: bool = False) -> Path:
    """Replaces a library that cannot be loaded, and returns the path. Raises as `build`.

    If it already replaced another one, building does not help, and it stays.
    """
    if cache.was_rebuilt(unloadable) and not even_if_rebuilt:
        return unloadable
    with cache.explained_errors():
        return _build_locked(recipe, cache.identity(unloadable))


def _build_locked(recipe: Recipe, unloadable: str | None) -> Path:
    recipe.find_compiler()  # raises if there is none
    folder = recipe.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with cache.locked(folder.with_name(folder.name + ".lock")) as is_locked:
        built = recipe.find_built()
        if built is not None and cache.identity(built) != unloadable:
            return built  # by another process, meanwhile
        if is_locked:  # else such a folder may be that of a running build
            for stale in folder.parent.glob(f"{cache.part_prefix(folder)}*"):
                shutil.rmtree(stale, ignore_errors=True)
        cache.discard(recipe.library)
        part = cache.new_part(folder)
        part.mkdir()  # not by tempfile, whose folders other users cannot read
        try:
            _compile(recipe, part)
            cache.store(part, recipe.library, replaces_unloadable=unloadable is not None)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return recipe.library


def _compile(recipe: Recipe, part: Path) -> None:
    names = " ".join(f"sm_{name}" for name in recipe.architectures)
    print(f"cuda_ops: building the {recipe.backend} backend {names}... ", end="", file=sys.stderr)
    sys.stderr.flush()
    started = time.perf_counter()
    result = compile_in(part, recipe)
    if result.returncode != 0:
        print("failed", file=sys.stderr)
        raise BuildError("the compiler failed:\n" + compiler_errors(result.stdout + result.stderr))
    for object_file in part.glob("*.o"):
        object_file.unlink()
    seconds = time.perf_counter() - started
    print(f"{seconds:.1f} s (stored in {recipe.folder})", file=sys.stderr)


def compile_in(folder: Path, recipe: Recipe) -> subprocess.CompletedProcess[str]:
    """Writes objects and library to the folder, with ninja if there is one; returns the outcome."""
    ninja = find_ninja()
    if ninja is None:
        return _compile_without_ninja(folder, recipe)
    (folder / "build.ninja").write_text(ninja_file(recipe))
    return _run(folder, ninja)


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    # An argument list and a working directory, so that no path is interpreted by a shell.
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _compile_without_ninja(folder: Path, recipe: Recipe) -> subprocess.CompletedProcess[str]:
    """The same commands, one compiler per core at a time; returns the first that failed."""
    run = functools.partial(_run, folder, *recipe.find_compiler())
    objects = [object_name(source) for source in recipe.sources]
    flags = (*recipe.flags, *recipe.gencode)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiling = [
            pool.submit(run, *flags, "-c", str(source), "-o", name)
            for source, name in zip(recipe.sources, objects, strict=True)
        ]
    failed = [job.result() for job in compiling if job.result().returncode != 0]
    if failed:
        return failed[0]
    return run(*objects, *recipe.link_flags, *recipe.gencode, "-o", recipe.library.name)


def object_name(source: Path) -> str:
    """The name of a source's object: `float.cpp` and `float.cu` have different ones."""
    return f"{source.stem}.{source.suffix[1:]}.o"


def compiler_errors(output: str) -> str:
    """At most 15 lines of the output: from the first one with an error on, or else the last ones.

    Ninja runs several compilers at once, so the output of others may follow the error.
    """
    lines = output.strip().splitlines()
    errors = [i for i, line in enumerate(lines) if "error" in line.lower()]
    start = errors[0] if errors else max(0, len(lines) - NUM_ERROR_LINES)
    return "\n".join(lines[start : start + NUM_ERROR_LINES])


def ninja_file(recipe: Recipe) -> str:
    """The content of build.ninja: one object per source, and the library."""
    flags = _quoted((*recipe.flags, *recipe.gencode))
    link_flags = _quoted((*recipe.link_flags, *recipe.gencode))
    compiler = _quoted(recipe.find_compiler())
    objects = [object_name(source) for source in recipe.sources]
    lines = [
        "rule compile",
        f"  command = {compiler} {flags} -c $in -o $out",
        "rule link",
        f"  command = {compiler} $in {link_flags} -o $out",
        *(
            f"build {name}: compile {_escaped(str(source))}"
            for name, source in zip(objects, recipe.sources, strict=True)
        ),
        f"build {recipe.library.name}: link {' '.join(objects)}",
    ]
    return "\n".join(lines) + "\n"


def _quoted(arguments: tuple[str, ...]) -> str:
    """A command line for ninja, whose commands run in a shell."""
    return shlex.join(arguments).replace("$", "$$")


def _escaped(path: str) -> str:
    """A path for ninja, in which `$`, `:` and spaces are special."""
    return re.sub(r"([$ :])", r"$\1", path)
