"""What a build needs from the machine: compilers, ninja, and the processor's instruction set."""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path


class BuildError(RuntimeError):
    """A backend cannot be built here; the message says why and how to mend it."""


def find_compiler() -> str:
    wanted = os.environ.get("CXX")
    for name in (wanted,) if wanted else ("c++", "g++", "clang++"):
        path = shutil.which(name)
        if path:
            return path
    if wanted:
        raise BuildError(f"CXX names {wanted!r}, which is not there")
    raise BuildError("no C++ compiler was found (c++, g++, clang++); install one, e.g. g++")


def find_nvcc() -> str:
    path = find_cuda_program("nvcc")
    if path is None:
        raise BuildError("nvcc was not found; install the CUDA toolkit or set CUDA_HOME")
    return path


def find_cuda_program(name: str) -> str | None:
    """A program of the CUDA toolkit: that of CUDA_HOME before that of PATH."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    return shutil.which(name, path=f"{home}/bin") or shutil.which(name)


def nvcc_release(nvcc: str) -> str:
    """The CUDA release that a compiler is of, such as "13.0"."""
    try:
        result = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{nvcc} cannot be run: {error.strerror}") from error
    found = re.search(r"release (\d+\.\d+)", result.stdout)
    if found is None:
        said = (result.stdout + result.stderr).strip() or f"nothing, status {result.returncode}"
        raise BuildError(f"{nvcc} --version names no release; it said: {said}")
    return found[1]


def find_ninja() -> str:
    # The package's own folder first: it is found also where its environment is not on PATH.
    try:
        import ninja
    except ImportError:
        path = shutil.which("ninja")
    else:
        path = shutil.which("ninja", path=ninja.BIN_DIR)
    if path is None:
        raise BuildError("ninja was not found; install it with: pip install ninja")
    return path


def processor_flags() -> tuple[str, ...]:
    if platform.machine() in ("x86_64", "AMD64"):
        return ("-march=native", "-mprefer-vector-width=512")
    return ("-mcpu=native",)


@functools.cache
def processor() -> str:
    """Names the instruction set: a home folder may be shared by unlike machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    features = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return platform.machine() + "".join(features[:2])
