"""How many images fit at a time, and whether an error says that they did not."""

from pathlib import Path

import torch

BYTES_PER_ACTIVATION = 6
"""Measured lower bound of a training step's peak per counted activation, in fp32: a batch above
it is certain not to fit, below it the device decides."""


def fitting_batch(batch_size: int, activations: int, device: torch.device) -> int:
    """At most ``batch_size`` images at ``activations`` each that are not certain to fail.

    On a CPU only: a GPU raises an error that can be caught, a CPU's kernel kills the process.
    """
    available = available_bytes()
    if device.type != "cpu" or available is None:
        return batch_size
    return max(1, min(batch_size, available // (activations * BYTES_PER_ACTIVATION)))


def available_bytes() -> int | None:
    """Memory that this machine can still give, or None where it does not tell (not Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return kilobytes["MemAvailable"] * 1024


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
