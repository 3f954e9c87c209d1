"""What a bug report should contain: versions, GPUs, backends, and what the self-check found."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterator

import torch

from cuda_ops import build, self_check
from cuda_ops.architectures import LEAST_CAPABILITY, dotted, visible_capabilities
from cuda_ops.cache import cache_root
from cuda_ops.check_mode import VARIABLE, check_mode
from cuda_ops.native import backends
from cuda_ops.self_check import Result
from cuda_ops.toolchain import BuildError, find_compiler, find_nvcc, nvcc_release


def report() -> Iterator[str]:
    """The report's lines. Builds nothing and runs no kernel.

    Raises:
        ValueError: ARCHSEARCH_CUDA_CHECK has a wrong value.
    """
    mode = check_mode()
    yield f"python {platform.python_version()}, {platform.platform()}, {platform.machine()}"
    yield (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"vector instructions {torch.backends.cpu.get_cpu_capability()}"
    )
    yield from _compilers()
    yield from _gpus()
    yield _cache()
    for name, backend in backends().items():
        state = "built" if backend.usable and backend.built else "usable"
        yield f"{name:6}{state if backend.usable else 'not usable':11}{backend.detail}"
    yield f"self-check of the CUDA kernels: {mode} ({VARIABLE})"
    yield from _self_checks()


def _cache() -> str:
    try:
        return f"cache {cache_root()}"
    except BuildError as error:
        return f"no cache: {error}"


def _compilers() -> Iterator[str]:
    try:
        yield f"compiler {shlex.join(find_compiler())}"
    except BuildError as error:
        yield f"compiler: {error}"
    try:
        nvcc = find_nvcc()
        yield f"nvcc {nvcc}, CUDA {nvcc_release(nvcc)}"
    except BuildError as error:
        yield f"nvcc: {error}"


def _gpus() -> Iterator[str]:
    for index, capability in enumerate(visible_capabilities()):
        least = LEAST_CAPABILITY
        note = "" if capability >= least else f"; the CUDA kernels need {dotted(least)}"
        name = torch.cuda.get_device_name(index)
        yield f"GPU {index}: {name}, compute capability {dotted(capability)}{note}"


def _self_checks() -> Iterator[str]:
    gpus = self_check.gpus()
    library = build.cuda_recipe().find_built() if gpus else None
    for gpu in gpus:
        result = self_check.stored_result(library, gpu) if library else None
        yield f"GPU {gpu.index}, driver {gpu.driver}: {_found(result)}"
        for difference in result.differences if result else ():
            yield f"  {difference}"


def _found(result: Result | None) -> str:
    if result is None:
        return "not checked yet; the first call checks"
    return f"wrong numbers on {result.gpu}:" if result.differences else "passed"
