"""What this machine offers to workers: cores, memory, GPUs. Asked without torch."""

import os
import shutil
import subprocess
from pathlib import Path

BYTES_PER_WORKER = 5 << 28
"""1.25 GiB. Measured: a 30M network trained by the quick recipe takes 1.17 GB, libraries included;
larger ones take more, which a failed trial then says."""


def cores() -> int:
    """Cores this process may use: its affinity, or less where a container's quota says so."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and int(period) > 0:
        return max(1, min(allowed or 1, round(int(quota) / int(period))))
    return allowed or 1


def memory() -> int | None:
    """Bytes that new processes can have, or None where the system does not say."""
    lines = _read("/proc/meminfo").splitlines()
    free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit.isdigit() and used.isdigit():
        free.append(int(limit) - int(used))
    return min(free, default=None)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:  # another system than Linux, or a container without it
        return ""


def gpus() -> tuple[str, ...]:
    """One entry per GPU, each fit for CUDA_VISIBLE_DEVICES; what that names, if it is set."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip() not in ("", "-1"))
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return tuple(listed.stdout.split()) if listed.returncode == 0 else ()


def default_workers(threads: int, num_gpus: int) -> int:
    """One per GPU; else as many as have ``threads`` cores each, bounded by the free memory."""
    if num_gpus:
        return num_gpus
    free = memory()
    room = cores() if free is None else free // BYTES_PER_WORKER
    return max(1, min(cores() // max(1, threads), room))
