"""Processes that are started here: they leave signals to this one, and end with it however it ends.

Ctrl-C in a terminal and a SIGTERM to the group reach all processes at once. Only one of them can
answer, and it still needs its children until it has saved.
"""

import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

OURS = (signal.SIGINT, signal.SIGTERM)
EXIT_ORPHAN = 75


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Signals wait, here and in what is started, which must not hear them before it can ignore
    them (`leave_signals_to_parent`)."""
    resource_tracker.ensure_running()  # comes with the first child, and would let signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OURS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_parent() -> None:
    """To be called first in a process that `multiprocessing` started, by its main thread."""
    for signum in OURS:
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OURS)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(EXIT_ORPHAN)


@atexit.register
def _end_daemons() -> None:
    """`multiprocessing` ends them by SIGTERM as the last thing, and then waits: they ignore it."""
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
