"""One training over several devices of one machine, with one process per device, started here.

Ctrl-C in a terminal and a SIGTERM to the process group reach all processes, but only this one
responds: it requests the others to save and stop. They always end with it.
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
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist

from archsearch.core.interrupted import Interrupted, Stop
from archsearch.training.process_group import ProcessGroup
from archsearch.training.signals import leave_signals_to_parent, signals_blocked

Work = Callable[[ProcessGroup, torch.device, Stop], None]
"""What each process does, given its process group, its device, and whether to stop."""

POLL_SECONDS = 0.2

TRACEBACK_CHARACTERS = 10_000
"""Length of a traceback that is sent: its end is the informative part, and a pipe must hold it."""


def run_in_processes(work: Work, size: int, device_type: str, stop: Stop) -> None:
    """Run ``work`` in ``size`` processes, on one GPU each or all on the CPU.

    ``work`` must be picklable: a function of a module, or a `functools.partial` of one. This
    process polls ``stop`` and passes the answer on. The first exception of a process is raised
    here with its traceback as a note, and the other processes are killed.

    Raises:
        RuntimeError: a process died without an exception.
    """
    # Raised here, so that no traceback keeps the semaphores of the processes alive.
    if error := _first_error(work, size, device_type, stop):
        raise error


def _first_error(work: Work, size: int, device_type: str, stop: Stop) -> Exception | None:
    spawn = multiprocessing.get_context("spawn")
    stopping, errors = spawn.Event(), spawn.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = str(Path(folder, "rendezvous"))
        training = _Training(work, size, device_type, stopping, errors, rendezvous)
        processes = [spawn.Process(target=_main, args=(rank, training)) for rank in range(size)]
        try:
            with signals_blocked():
                for process in processes:
                    process.start()
            while _running(processes):
                if stop():
                    stopping.set()
        finally:
            for process in processes:
                _kill(process)
    if not errors.empty():
        return cast(Exception, errors.get())
    if codes := [process.exitcode for process in processes if process.exitcode]:
        return RuntimeError(f"a process of the training died with exit code {codes[0]}")
    return None


def _running(processes: Sequence[BaseProcess]) -> bool:
    """Whether some processes run and none has failed, after a short wait for one to end."""
    wait([process.sentinel for process in processes if process.exitcode is None], POLL_SECONDS)
    codes = [process.exitcode for process in processes]
    return None in codes and not any(codes)


def _kill(process: BaseProcess) -> None:
    if process.pid is not None:  # it was started
        process.kill()
        process.join()


class _Training(NamedTuple):
    """What the processes of one training share: an event and a queue among it."""

    work: Work
    size: int
    device_type: str
    stopping: Any
    errors: Any
    rendezvous: str


def _main(rank: int, training: _Training) -> None:
    leave_signals_to_parent()
    with _sending_errors(training.errors, rank):
        _work(ProcessGroup(rank, training.size), training)


@contextmanager
def _sending_errors(errors: Any, rank: int) -> Iterator[None]:
    """Send an exception inside to the parent, then exit."""
    try:
        yield
    except Exception as error:
        errors.put(_picklable(error, rank))
        raise SystemExit(1) from error


def _picklable(error: Exception, rank: int) -> Exception:
    """``error`` with its traceback as a note, or its message if it cannot be pickled."""
    text = "".join(traceback.format_exception(error))[-TRACEBACK_CHARACTERS:]
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  another library's exception may raise anything
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"In process {rank}:\n{text}")
    return error


def _work(group: ProcessGroup, training: _Training) -> None:
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):  # connect inside this machine
        os.environ.setdefault(variable, "lo")
    on_gpu = training.device_type == "cuda"
    device = torch.device("cuda", group.rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    # Depth-wise kernels are (C, 1, K, K): the stride of the 1 has two equivalent values.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    file = f"file://{training.rendezvous}"
    dist.init_process_group(backend, file, rank=group.rank, world_size=group.size)
    try:
        # The error is sent before the group is destroyed: the other processes then lose their
        # connection and raise that. All processes are interrupted together, after the first saved.
        with _sending_errors(training.errors, group.rank), suppress(Interrupted):
            training.work(group, device, training.stopping.is_set)
    finally:
        dist.destroy_process_group()
