"""Compute capabilities: which GPUs are here, what runs on them, and which nvcc builds for them."""

from __future__ import annotations

import re

import torch

from cuda_ops.toolchain import BuildError, find_nvcc, nvcc_release

LEAST_CAPABILITY = (8, 0)  # csrc/cuda/numeric.cuh refuses older ones


def runs_on(code: str, wanted: str) -> bool:
    """Whether code built for one compute capability runs on a GPU of another.

    Code of 8.0 runs on 8.6 and 8.9, not on 9.0; that of 90a or 100f is not taken for anything else.
    """
    if code == wanted:
        return True
    plain = code.isdecimal() and wanted.isdecimal()
    return plain and code[:-1] == wanted[:-1] and int(code[-1]) <= int(wanted[-1])


def named(architectures: tuple[str, ...]) -> tuple[str, ...]:
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
