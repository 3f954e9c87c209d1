"""Child processes leave signals to their parent, and always end with it.

Ctrl-C in a terminal and a SIGTERM to the process group reach all processes, but only the parent
responds: it needs its children until it has saved.
"""

import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_ORPHAN = 75


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block stop signals, here and in processes started inside.

    Such a process calls `leave_signals_to_parent`, which ignores the signals before it unblocks
    them.
    """
    resource_tracker.ensure_running()  # starts with the first child and would unblock signals
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def leave_signals_to_parent() -> None:
    """Ignore stop signals, and end this process when its parent ends.

    The main thread of a process that `multiprocessing` started calls this first.
    """
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(EXIT_ORPHAN)


@atexit.register
def _kill_daemons() -> None:
    """Kill child processes at exit: `multiprocessing` would send SIGTERM, which they ignore, and
    wait for them."""
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
