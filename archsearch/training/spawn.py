"""One training over several devices of one machine: a process each, started here.

This process speaks for them: Ctrl-C in a terminal and a SIGTERM to the group reach all of them at
once, but only this one answers, by asking the others to save and stop. They end with it, however
it ends.
"""

import multiprocessing
import os
import pickle
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist

from archsearch.core.interrupted import Interrupted
from archsearch.training.process_group import ProcessGroup
from archsearch.training.signals import leave_signals_to_parent, signals_held_back

Work = Callable[[ProcessGroup, torch.device, Callable[[], bool]], None]
"""What each process does: the group as this one is in it, its device, and when to stop."""

POLL_SECONDS = 0.2

NOTE = 10_000
"""Characters of a traceback that come over: the end says most, and a pipe must hold it."""


def spread(work: Work, size: int, device_type: str, stop: Callable[[], bool]) -> None:
    """Run ``work`` in ``size`` processes, on one GPU each or all on the CPU.

    ``work`` must be picklable: a function of a module, or a `functools.partial` of one. ``stop``
    is asked here and handed on. What a process raises first is raised here, with its traceback as
    a note; the others are ended.

    Raises:
        RuntimeError: a process died without a word.
    """
    # Raised here, where no traceback keeps the semaphores of the processes alive.
    if error := _first_error(work, size, device_type, stop):
        raise error


def _first_error(
    work: Work, size: int, device_type: str, stop: Callable[[], bool]
) -> Exception | None:
    spawn = multiprocessing.get_context("spawn")
    stopping, errors = spawn.Event(), spawn.SimpleQueue()
    with tempfile.TemporaryDirectory() as place:
        args = (work, size, device_type, stopping, errors, str(Path(place, "meet")))
        processes = [spawn.Process(target=_process, args=(rank, *args)) for rank in range(size)]
        try:
            with signals_held_back():
                for process in processes:
                    process.start()
            while _all_well(processes):
                if stop():
                    stopping.set()
        finally:
            for process in processes:
                _end(process)
    if not errors.empty():
        return cast(Exception, errors.get())
    if codes := [process.exitcode for process in processes if process.exitcode]:
        return RuntimeError(f"a process of the training died with exit code {codes[0]}")
    return None


def _all_well(processes: Sequence[BaseProcess]) -> bool:
    """Whether some run and none has failed, after a short wait for an end."""
    wait([process.sentinel for process in processes if process.exitcode is None], POLL_SECONDS)
    codes = [process.exitcode for process in processes]
    return None in codes and not any(codes)


def _end(process: BaseProcess) -> None:
    if process.pid is not None:  # it was started
        process.kill()
        process.join()


def _process(
    rank: int,
    work: Work,
    size: int,
    device_type: str,
    stopping: Any,
    errors: Any,
    meeting_place: str,
) -> None:
    leave_signals_to_parent()
    with _told(errors, rank):
        _work(ProcessGroup(rank, size), work, device_type, stopping, errors, meeting_place)


@contextmanager
def _told(errors: Any, rank: int) -> Iterator[None]:
    """An exception inside ends this process, after the parent was given it."""
    try:
        yield
    except Exception as error:
        errors.put(_portable(error, rank))
        raise SystemExit(1) from error


def _portable(error: Exception, rank: int) -> Exception:
    """``error``, or its words where it cannot be pickled; with its traceback as a note."""
    text = "".join(traceback.format_exception(error))[-NOTE:]
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  whatever an exception of another library does
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"In process {rank}:\n{text}")
    return error


def _work(
    group: ProcessGroup,
    work: Work,
    device_type: str,
    stopping: Any,
    errors: Any,
    meeting_place: str,
) -> None:
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):  # one machine: stay inside it
        os.environ.setdefault(variable, "lo")
    on_gpu = device_type == "cuda"
    device = torch.device(device_type, group.rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    # Depth-wise kernels are (C, 1, K, K): the stride of the 1 can be spelled in two ways.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    file = f"file://{meeting_place}"
    dist.init_process_group(backend, file, rank=group.rank, world_size=group.size)
    try:
        # Told before the group goes: then the others lose their connection and raise that.
        # All of them are interrupted together, and the first has saved.
        with _told(errors, group.rank), suppress(Interrupted):
            work(group, device, stopping.is_set)
    finally:
        dist.destroy_process_group()
