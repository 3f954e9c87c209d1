"""Cores, memory and GPUs that this machine offers to workers. Does not import torch."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from archsearch.core.numbers import quoted

T = TypeVar("T")

ALLOCATOR = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"
    ":glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=8589934592"
}
"""Environment of a process that trains on a CPU: glibc keeps the memory of a step for the next one,
in huge pages where the kernel offers them.

By default every step returns memory and gets it again in pages of 4 KiB: a step of a 30M network
has up to 24,000 page faults, with these settings about two. It takes 7 to 12% less time in all but
the first training of a process (glibc 2.36, AVX-512, two workers on two cores). 32 MiB is the
largest threshold that every glibc accepts. Other C libraries ignore the variable. Returning memory
between trainings (malloc_trim) breaks up the huge pages and loses two thirds of that.
"""

CUDA_GRAPHS = "ARCHSEARCH_CUDA_GRAPHS"
CGROUP = Path("/sys/fs/cgroup")
CPU_INFO = Path("/proc/cpuinfo")

BF16_FLAGS = {"amx_bf16", "avx512_bf16", "avx_ne_convert", "bf16"}
"""What Linux calls the instructions for bf16 of x86 and, the last, of ARM."""

BYTES_PER_WORKER = 5 << 28
"""1.25 GiB. A 30M network trained with the quick recipe was measured at 1.17 GB, libraries
included. Larger networks take more; such a trial then fails with an out-of-memory error."""


def cores() -> int:
    """Cores that this process may use: its affinity, or less if a container's quota is lower."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and int(period) > 0:
        return max(1, min(allowed or 1, round(int(quota) / int(period))))
    return allowed or 1


def memory() -> int | None:
    """Bytes that processes can still allocate, or None if the system does not report them."""
    lines = _read(Path("/proc/meminfo")).splitlines()
    free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return min([*free, *_container_memory()], default=None)


def _container_memory() -> list[int]:
    """Bytes left under the limit of control group v2, as in a container; empty without a limit.

    Cached files count as free because the kernel drops them when memory is needed.
    """
    limit, used = _read(CGROUP / "memory.max"), _read(CGROUP / "memory.current")
    if not (limit.isdigit() and used.isdigit()):
        return []
    stat = dict(line.split() for line in _read(CGROUP / "memory.stat").splitlines())
    cached = int(stat.get("active_file", 0)) + int(stat.get("inactive_file", 0))
    return [int(limit) - int(used) + cached]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # not Linux, or a container without this file
        return ""


def gpus() -> tuple[str, ...]:
    """One entry per GPU, valid in CUDA_VISIBLE_DEVICES; the GPUs it names if it is set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    return tuple(_nvidia_smi("--query-gpu=uuid", "--format=csv,noheader"))


def free_gpu_bytes(names: Sequence[str]) -> int | None:
    """Free bytes of the fullest of these GPUs, named as by `gpus`; None if they are not reported,
    as for parts of a GPU (MIG)."""
    if not names:
        return None
    gpu_ids, free = f"--id={','.join(names)}", "--query-gpu=memory.free"
    mebibytes = _nvidia_smi(gpu_ids, free, "--format=csv,noheader,nounits")
    known = len(mebibytes) == len(names) and all(text.isdigit() for text in mebibytes)
    return min(map(int, mebibytes)) << 20 if known else None


def _nvidia_smi(*options: str) -> list[str]:
    """The words that nvidia-smi prints; none without it, or if it fails."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", *options]
    listing = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return listing.stdout.split() if listing.returncode == 0 else []


def cuda_graphs_requested() -> bool:
    """Whether the environment requests CUDA graphs (`archsearch.training.graphs`).

    Raises:
        ValueError: its variable is neither 0 nor 1.
    """
    value = os.environ.get(CUDA_GRAPHS, "0")
    if value not in ("0", "1"):
        raise ValueError(f"{CUDA_GRAPHS} must be 0 or 1, got {quoted(value)}")
    return value == "1"


def gpu(number: int) -> str:
    """The GPU that torch calls ``cuda:number``, as an entry of CUDA_VISIBLE_DEVICES.

    Raises:
        ValueError: there are fewer GPUs.
    """
    names, restricted = gpus(), "CUDA_VISIBLE_DEVICES" in os.environ
    if (names or restricted) and number >= len(names):
        raise ValueError(f"wanted the GPU cuda:{number}, there are {len(names)}")
    # Otherwise the number itself: nvidia-smi may list GPUs in another order than CUDA.
    return names[number] if restricted else str(number)


def lacks_bf16() -> bool:
    """Whether this processor is known to have no bf16 instructions: torch then emulates them."""
    lines = _read(CPU_INFO).splitlines()
    flags = [s.partition(":")[2].split() for s in lines if s.startswith(("flags", "Features"))]
    return bool(flags) and not BF16_FLAGS.intersection(flags[0])


def in_new_process(function: Callable[..., T], *arguments: Any) -> T:
    """``function(*arguments)``, computed in a new process, which returns its memory at its end."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def default_workers(threads: int, num_gpus: int) -> int:
    """One worker per GPU; without GPUs, as many as the cores (``threads`` each) and the free
    memory allow."""
    if num_gpus:
        return num_gpus
    free = memory()
    most = cores() if free is None else free // BYTES_PER_WORKER
    return max(1, min(cores() // max(1, threads), most))
