"""Compute capabilities of visible GPUs and compiled code, and which nvcc can build for them."""

from __future__ import annotations

import re

import torch

from cuda_ops.toolchain import BuildError, find_nvcc, nvcc_release

LEAST_CAPABILITY = (8, 0)  # csrc/cuda/numeric.cuh does not compile for older ones


def runs_on(code: str, gpu: str) -> bool:
    """Whether code compiled for one compute capability runs on a GPU of another.

    Code for 8.0 runs on 8.6 and 8.9, not on 9.0. Code for 90a or 100f is used for that name only.
    """
    if code == gpu:
        return True
    plain = code.isdecimal() and gpu.isdecimal()
    return plain and code[:-1] == gpu[:-1] and int(code[-1]) <= int(gpu[-1])


def checked(architectures: tuple[str, ...]) -> tuple[str, ...]:
    """The capabilities of --arch, sorted and without repeats.

    Raises BuildError for one that is malformed or older than the kernels support.
    """
    malformed = [name for name in architectures if not re.fullmatch(r"\d{2,3}[af]?", name)]
    if malformed:
        raise BuildError(f"--arch: wanted compute capabilities such as 80,90, got {malformed}")
    old = [name for name in architectures if int(name.rstrip("af")) < _as_number(LEAST_CAPABILITY)]
    if old:
        raise BuildError(f"--arch: wanted compute capabilities of 80 or higher, got {old}")
    return tuple(sorted(set(architectures)))


def visible_architectures() -> tuple[str, ...]:
    """Compute capabilities of the GPUs that torch sees, e.g. ("90",), without the too old ones.

    Raises BuildError if none remains.
    """
    visible = sorted(set(visible_capabilities()))
    usable = [capability for capability in visible if capability >= LEAST_CAPABILITY]
    if not visible:
        raise BuildError("no GPU is visible; name its compute capability, e.g. --arch 90")
    if not usable:
        raise BuildError(
            f"the CUDA kernels need a GPU of compute capability {dotted(LEAST_CAPABILITY)} or "
            f"higher; the visible GPUs have {', '.join(map(dotted, visible))}"
        )
    return tuple(str(_as_number(capability)) for capability in usable)


def visible_capabilities() -> list[tuple[int, int]]:
    """The compute capability of each GPU that torch sees, in torch's order, e.g. [(9, 0)]."""
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())]


def _as_number(capability: tuple[int, int]) -> int:
    return 10 * capability[0] + capability[1]


def dotted(capability: tuple[int, int]) -> str:
    """The capability as NVIDIA writes it, e.g. 9.0."""
    return f"{capability[0]}.{capability[1]}"


def find_usable_nvcc() -> tuple[str]:
    """nvcc's path alone. Raises BuildError if the GPU driver could not run what this nvcc compiles.

    The library contains nvcc's own CUDA runtime. A driver runs a runtime of its own major version
    or an older one, and we know the driver's version only through torch's. With a newer nvcc the
    library would build and load, and every launch would fail.
    """
    nvcc = find_nvcc()
    release = nvcc_release(nvcc)
    if torch.version.cuda is not None and _major(release) > _major(torch.version.cuda):
        raise BuildError(
            f"{nvcc} is part of CUDA {release}, and torch was built for CUDA {torch.version.cuda}: "
            f"install the CUDA {_major(torch.version.cuda)} toolkit and set CUDA_HOME to its "
            f"folder, or install a torch for CUDA {_major(release)}"
        )
    return (nvcc,)


def _major(release: str) -> int:
    return int(release.partition(".")[0])
