"""What this machine offers to workers: cores, memory, GPUs. Asked without torch."""

import os
import shutil
import subprocess
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")

BYTES_PER_WORKER = 5 << 28
"""1.25 GiB. Measured: a 30M network trained by the quick recipe takes 1.17 GB, libraries included;
larger ones take more, which a failed trial then says."""


def cores() -> int:
    """Cores this process may use: its affinity, or less where a container's quota says so."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and int(period) > 0:
        return max(1, min(allowed or 1, round(int(quota) / int(period))))
    return allowed or 1


def memory() -> int | None:
    """Bytes that processes can still get, or None where the system does not say."""
    lines = _read(Path("/proc/meminfo")).splitlines()
    free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return min([*free, *_container_memory()], default=None)


def _container_memory() -> list[int]:
    """What control group v2 leaves, as in a container; cached files make room when asked."""
    limit, used = _read(CGROUP / "memory.max"), _read(CGROUP / "memory.current")
    if not (limit.isdigit() and used.isdigit()):
        return []
    stat = dict(line.split() for line in _read(CGROUP / "memory.stat").splitlines())
    cached = int(stat.get("active_file", 0)) + int(stat.get("inactive_file", 0))
    return [int(limit) - int(used) + cached]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
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


def gpu(number: int) -> str:
    """The GPU that torch calls ``cuda:number``, fit for CUDA_VISIBLE_DEVICES.

    Raises:
        ValueError: there are fewer.
    """
    found, named = gpus(), "CUDA_VISIBLE_DEVICES" in os.environ
    if (found or named) and number >= len(found):
        raise ValueError(f"wanted the GPU cuda:{number}, there are {len(found)}")
    return found[number] if named else str(number)  # CUDA's order, which nvidia-smi may not keep


def default_workers(threads: int, num_gpus: int) -> int:
    """One per GPU; else as many as have ``threads`` cores each, bounded by the free memory."""
    if num_gpus:
        return num_gpus
    free = memory()
    room = cores() if free is None else free // BYTES_PER_WORKER
    return max(1, min(cores() // max(1, threads), room))
