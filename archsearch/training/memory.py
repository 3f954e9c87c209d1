"""How many images fit at a time, and whether an error says that they did not."""

from pathlib import Path

import torch

from archsearch.core.cost import Cost
from archsearch.core.recipe import Recipe
from archsearch.training import machine

BYTES_PER_ACTIVATION = {"fp32": 9, "bf16": 5, "fp16": 5}
"""Peak of a training step per activation that the closed form counts: 7.1 to
8.5 in fp32 and 2.9 to 4.4 in bf16 on InternImage-T at 32 and 224 pixels, rounded up."""

BYTES_PER_PARAMETER = 16
"""The weight, its gradient and AdamW's two moments, in fp32."""


def fitting_batch(recipe: Recipe, cost: Cost, device: torch.device) -> int:
    """How many images at a time are expected to fit, at most the recipe's batch; two at least.

    On a CPU only: a GPU raises an error that can be caught, a CPU's kernel kills the process.
    """
    available = machine.memory()
    if device.type != "cpu" or available is None:
        return recipe.batch_size
    room = available - cost.params * BYTES_PER_PARAMETER
    per_image = cost.activations * BYTES_PER_ACTIVATION[recipe.precision]
    return max(2, min(recipe.batch_size, room // per_image))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether ``error`` is a refused allocation, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class PeakMemory:
    """Peak bytes since this was made: of the GPU's tensors, or of this process on Linux."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.known = True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            self.known = _reset_process_peak()

    def bytes(self) -> int | None:
        if not self.known:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(s.split()[1]) * 1024 for s in lines if s.startswith("VmHWM"))


def _reset_process_peak() -> bool:
    # Writing 5 resets VmHWM (proc(5)): a warm worker's earlier trials must not count.
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
