"""The device of a training: by name, its settings, and what a person calls it."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from archsearch.core.recipe import Recipe

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(name: str) -> torch.device:
    """``auto`` is the GPU if there is one.

    Raises:
        ValueError: the device asked for is not on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"no device {name!r} here, use auto, cpu or cuda: {reason}") from None
    return device


def devices_of(name: str) -> tuple[torch.device, int | None]:
    """The device, or of ``TYPE*N`` the first one and N.

    Raises:
        ValueError: it is not on this machine, or not so often.
    """
    one, several, size = name.partition("*")
    if several and (":" in one or not size.isdecimal() or int(size) < 1):
        raise ValueError(f"no device {name!r}: wanted a number after the *, such as cuda*4")
    device = device_of(one)
    if several and device.type == "cuda" and int(size) > torch.cuda.device_count():
        raise ValueError(f"wanted {size} GPUs, there are {torch.cuda.device_count()}")
    return device, int(size) if several else None


def check_device(recipe: Recipe, name: str) -> None:
    """Ask beforehand whether ``recipe`` can be trained on the device ``name``.

    Raises:
        ValueError: as `devices_of`, or the device cannot compute in the recipe's precision.
    """
    check_precision(recipe, devices_of(name)[0])


def check_precision(recipe: Recipe, device: torch.device) -> None:
    """Raise `ValueError` where ``device`` cannot compute as ``recipe`` asks."""
    if recipe.precision == "fp16" and device.type != "cuda":
        raise ValueError(f"precision fp16 needs a GPU, this is {device}: use fp32 or bf16")
    if recipe.precision == "bf16" and device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                raise ValueError(f"{device} has no bf16: use precision=fp16 or fp32")


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """A context in which the network computes in the recipe's precision."""
    dtype = DTYPES[recipe.precision]
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


@contextmanager
def settings(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Threads, TF32 and random state as a training needs them, put back afterwards."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            torch.set_num_threads(recipe.threads)
            torch.set_float32_matmul_precision("high")  # TF32 on a GPU, nothing on a CPU
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)


def device_name(device: torch.device) -> str:
    """What a person calls it, e.g. ``NVIDIA H200`` or ``cpu (AMD EPYC)``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"cpu ({platform.machine()})"
    model = next((s.partition(":")[2].strip() for s in lines if s.startswith("model name")), "")
    return f"cpu ({model or platform.machine()})"
