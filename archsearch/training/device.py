"""The device of a training: lookup by name, torch's settings for it, and its display name."""

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from archsearch.core.numbers import quoted
from archsearch.core.recipe import Recipe
from cuda_ops.toolchain import cpu_model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is the GPU if there is one, else the CPU.

    Raises:
        ValueError: this machine does not have the device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"no device {quoted(name)} here, use auto, cpu or cuda: {reason}"
        ) from None
    return device


def devices_of(name: str) -> tuple[torch.device, int | None]:
    """The device called ``name`` and None, or for ``TYPE*N`` the first device and N.

    Raises:
        ValueError: this machine does not have the device, or has fewer than N.
    """
    first_name, star, size = name.partition("*")
    if star and (":" in first_name or not re.fullmatch(r"0*[1-9]\d{0,3}", size, re.ASCII)):
        raise ValueError(f"no device {quoted(name)}: wanted a number after the *, such as cuda*4")
    device = device_of(first_name)
    if star and device.type == "cuda" and int(size) > torch.cuda.device_count():
        raise ValueError(f"wanted {size} GPUs, there are {torch.cuda.device_count()}")
    return device, int(size) if star else None


def check_device(recipe: Recipe, name: str) -> torch.device:
    """The device ``name``, the first of several, after a check that it can train ``recipe``.

    Raises:
        ValueError: as `devices_of`, or the device cannot compute in the recipe's precision.
    """
    device, _ = devices_of(name)
    check_precision(recipe, device)
    return device


def check_precision(recipe: Recipe, device: torch.device) -> None:
    """Check that ``device`` can compute in the recipe's precision.

    Raises:
        ValueError: it cannot.
    """
    if recipe.precision == "fp16" and device.type != "cuda":
        raise ValueError(f"precision fp16 needs a GPU, this is {device}: use fp32 or bf16")
    if recipe.precision == "bf16" and device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                raise ValueError(f"{device} has no bf16: use precision=fp16 or fp32")


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which a network computes in ``precision`` (fp32, bf16 or fp16)."""
    dtype = DTYPES[precision]
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


@contextmanager
def settings(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """A context with the number of threads, TF32 and the random state that a training needs.

    The previous settings are restored afterwards.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            torch.set_num_threads(recipe.threads)
            torch.set_float32_matmul_precision("high")  # TF32 on a GPU, no effect on a CPU
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished its work; a CPU has always finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """The name of the hardware, e.g. ``NVIDIA H200`` or ``cpu (AMD EPYC)``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({cpu_model() or platform.machine()})"
