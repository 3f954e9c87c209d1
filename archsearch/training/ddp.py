"""One training over several devices of one machine: a process each, started here."""

import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from archsearch.study import Interrupted
from archsearch.training.world import World

Work = Callable[[World, torch.device, Callable[[], bool]], None]
"""What each process does: its place in the world, its device, and when to stop."""

POLL_SECONDS = 0.2


def spread(work: Work, size: int, device_type: str, stop: Callable[[], bool]) -> None:
    """Run ``work`` in ``size`` processes, on one GPU each or all on the CPU.

    ``work`` must be picklable: a function of a module, or a `functools.partial` of one. ``stop``
    is asked here and handed on. What a process raises is raised here, with its traceback as text;
    the others are ended.
    """
    stopping = torch.multiprocessing.get_context("spawn").Event()
    with tempfile.TemporaryDirectory() as meeting_place:
        args = (work, size, device_type, stopping, str(Path(meeting_place, "meet")))
        context = start_processes(  # type: ignore[no-untyped-call]
            _process, args, size, join=False, start_method="spawn"
        )
        assert context is not None
        while not context.join(POLL_SECONDS):
            if stop():
                stopping.set()


def _process(
    rank: int, work: Work, size: int, device_type: str, stopping: object, meeting_place: str
) -> None:
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):  # one machine: stay inside it
        os.environ.setdefault(variable, "lo")
    device = torch.device(device_type, rank) if device_type == "cuda" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Depth-wise kernels are (C, 1, K, K): the stride of the 1 can be spelled in two ways.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, f"file://{meeting_place}", rank=rank, world_size=size)
    try:
        with suppress(Interrupted):  # all of them stop together, and the first has saved
            work(World(rank, size), device, stopping.is_set)  # type: ignore[attr-defined]
    finally:
        dist.destroy_process_group()
