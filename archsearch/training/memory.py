"""Memory of a training: how many images fit at a time, out-of-memory errors, and the peak."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from archsearch.core.cost import Cost
from archsearch.core.recipe import Recipe
from archsearch.training import machine

BYTES_PER_ACTIVATION = {"fp32": 9, "bf16": 5, "fp16": 5}
"""Peak bytes of a training step per activation in the closed-form count: measured 7.1 to 8.5 in
fp32 and 2.9 to 4.4 in bf16 on InternImage-T at 32 and 224 pixels, rounded up."""

BYTES_PER_PARAMETER = 16
"""The weight, its gradient and AdamW's two moments, in fp32."""

MIN_IMAGES = 2
"""The fewest images that BatchNorm can take at a time."""


def fitting_batch(recipe: Recipe, cost: Cost, device: torch.device) -> int:
    """How many images are expected to fit in memory at a time, from `MIN_IMAGES` to the batch size.

    Only a CPU is limited: a GPU raises an error that can be caught, but the kernel kills a process
    that runs out of the CPU's memory.
    """
    available = machine.memory()
    if device.type != "cpu" or available is None:
        return recipe.batch_size
    left = available - cost.params * BYTES_PER_PARAMETER
    per_image = cost.activations * BYTES_PER_ACTIVATION[recipe.precision]
    return max(MIN_IMAGES, min(recipe.batch_size, left // per_image))


def set_gradient_checkpointing(model: nn.Module) -> None:
    """Let every part of the network that can compute its blocks again in the backward pass do so.

    Raises:
        ValueError: no part of it can.
    """
    parts: list[Any] = [m for m in model.modules() if hasattr(m, "set_gradient_checkpointing")]
    if not parts:
        raise ValueError(
            "no module of the network has set_gradient_checkpointing(): add --set "
            "gradient_checkpointing=false"
        )
    for part in parts:
        part.set_gradient_checkpointing()


def check_fits(cost: Cost, device: torch.device) -> None:
    """Check that the device has the memory for the parameters of a network that is trained.

    Raises:
        ValueError: it does not; images need memory too.
    """
    needed, available = cost.params * BYTES_PER_PARAMETER, _memory(device)
    if available is not None and needed > available:
        raise ValueError(
            f"the network has {cost.params:,} parameters, and to train them takes at least "
            f"{needed / 1e9:,.1f} GB of memory (weights, gradients and AdamW's moments), but "
            f"{device} has {available / 1e9:,.1f} GB: choose a smaller network"
        )


def _memory(device: torch.device) -> int | None:
    """Bytes of a GPU, or those that processes can still allocate."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return machine.memory()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether ``error`` reports a failed allocation, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class PeakMemory:
    """Peak bytes since creation: of the GPU's tensors, or of this process on Linux."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.measurable = True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            self.measurable = _reset_process_peak()

    def bytes(self) -> int | None:
        """The peak so far; None if this system cannot measure it."""
        if not self.measurable:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(s.split()[1]) * 1024 for s in lines if s.startswith("VmHWM"))


def _reset_process_peak() -> bool:
    # Writing 5 resets VmHWM (proc(5)): earlier trials of the same worker must not count.
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
