"""What a build needs from the machine: compilers, ninja, and the processor's instruction set."""

from __future__ import annotations

import functools
import os
import platform
import re
import shlex
import shutil
import subprocess
from pathlib import Path


class BuildError(RuntimeError):
    """A backend cannot be built here; the message says why and how to fix it."""


def cpu_model() -> str:
    """The processor's name as Linux reports it; empty on other systems."""
    names = [
        line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")
    ]
    return names[0] if names else ""


def _cpu_info() -> list[str]:
    info = Path("/proc/cpuinfo")
    return info.read_text().splitlines() if info.exists() else []


def find_compiler() -> tuple[str, ...]:
    """The C++ compiler's path and first arguments; CXX may hold several words (`ccache g++`)."""
    requested = os.environ.get("CXX")
    for command in (requested,) if requested else ("c++", "g++", "clang++"):
        program, *arguments = _words(command)
        path = shutil.which(program)
        if path:
            return (path, *arguments)
    if requested:
        raise BuildError(f"CXX is {requested!r}, and there is no such program")
    raise BuildError("no C++ compiler was found (c++, g++, clang++); install one, e.g. g++")


def _words(command: str) -> list[str]:
    """The words of CXX, as a shell splits them."""
    try:
        return shlex.split(command) or [command]
    except ValueError as error:
        raise BuildError(f"CXX is {command!r}, which is not a command: {error}") from error


@functools.cache
def compiler_identity(command: tuple[str, ...]) -> str:
    """A compiler's arguments and what it prints about its version."""
    try:
        result = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror}") from error
    if result.returncode != 0:
        output = (result.stdout + result.stderr).strip() or f"status {result.returncode}"
        raise BuildError(f"{shlex.join(command)} --version failed: {output}")
    return shlex.join(command[1:]) + result.stdout


def c_library() -> str:
    """The C library's name and version, such as "glibc 2.36"; empty if it names none."""
    name = "CS_GNU_LIBC_VERSION"
    return (os.confstr(name) or "") if name in os.confstr_names else ""


def find_nvcc() -> str:
    path = find_cuda_program("nvcc")
    if path is None:
        raise BuildError("nvcc was not found; install the CUDA toolkit or set CUDA_HOME")
    return path


def find_cuda_program(name: str) -> str | None:
    """The path of a program of the CUDA toolkit, from CUDA_HOME before PATH; None if absent."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    return shutil.which(name, path=f"{home}/bin") or shutil.which(name)


def nvcc_release(nvcc: str) -> str:
    """The CUDA release of a compiler, such as "13.0"."""
    try:
        result = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{nvcc} cannot be run: {error.strerror}") from error
    match = re.search(r"release (\d+\.\d+)", result.stdout)
    if match is None:
        output = (result.stdout + result.stderr).strip() or f"nothing, status {result.returncode}"
        raise BuildError(f"{nvcc} --version names no release; it printed: {output}")
    return match[1]


def find_ninja() -> str | None:
    """The path of ninja; None if absent."""
    # The package's own folder first: it works even if the environment is not on PATH.
    try:
        import ninja
    except ImportError:
        return shutil.which("ninja")
    # In an environment that is layered on another, the package is seen but its program is not.
    return shutil.which("ninja", path=ninja.BIN_DIR) or shutil.which("ninja")


def processor_flags() -> tuple[str, ...]:
    if platform.machine() in ("x86_64", "AMD64"):
        return ("-march=native", "-mprefer-vector-width=512")
    return ("-mcpu=native",)


@functools.cache
def processor() -> str:
    """The instruction set's name, because machines of different kinds may share a home folder."""
    lines = [s for s in _cpu_info() if s.startswith(("model name", "flags", "Features"))]
    return platform.machine() + "".join(lines[:2])
