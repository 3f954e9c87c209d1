"""A disk that fails at one operation on a file below a folder, or from then on."""

import errno
import io
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from archsearch.storage import files

Fault = Literal["kill", "torn write", "ENOSPC", "EIO once", "ESTALE"]
FAULTS: tuple[Fault, ...] = ("kill", "torn write", "ENOSPC", "EIO once", "ESTALE")
DEADLY: tuple[Fault, ...] = ("kill", "torn write")
WRITING = ("write", "fsync", "mkdir", "replace", "create")


@dataclass
class Disk:
    """Performs operations, and the fault at operation number ``at``; ``log`` describes each."""

    folder: Path
    fault: Fault = "kill"
    at: int = -1
    log: list[str] = field(default_factory=list)

    def before(self, operation: str, path: str) -> str:
        """What to do instead of the operation: "" for nothing, "half" for half of it."""
        if not path.startswith(str(self.folder)) or path.endswith("/lock"):
            return ""
        number = len(self.log)
        self.log.append(f"{operation} {_kind(path.removeprefix(str(self.folder)))}")
        if self.at < 0 or number < self.at:
            return ""
        if self.fault in DEADLY:
            half = operation == "write" and self.fault == "torn write"
            return "half" if half else os.kill(os.getpid(), signal.SIGKILL) or ""
        if self.fault == "EIO once" and number == self.at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self.fault == "ESTALE":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        if self.fault == "ENOSPC" and operation in WRITING:
            if operation == "write" and number == self.at:
                return "half"
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return ""

    def write(self, fd: int, data: Any) -> int:
        if self.before("write", _path(fd)) != "half":
            return os.write(fd, data)
        num = os.write(fd, data[: len(data) // 2])
        if self.fault in DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        return num

    def wrap(self, operation: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(target: Any, *args: Any, **options: Any) -> Any:
            path = _path(target) if isinstance(target, int) else os.fspath(target)
            creates = (
                operation == "open" and args and isinstance(args[0], int) and args[0] & (os.O_CREAT)
            )
            self.before("create" if creates else operation, str(path))
            return call(target, *args, **options)

        return wrapped


def _path(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


def _kind(path: str) -> str:
    """The path with placeholders for ids, sums and random names."""
    path = re.sub(r"[0-9a-f]{64}", "SUM", path)
    path = re.sub(r"\.tmp-[0-9a-f]{16}", "TEMP", path)
    return re.sub(r"[0-9a-f]{16}", "ID", path)


@contextmanager
def failing(disk: Disk) -> Iterator[Disk]:
    """Every operation on files inside goes through ``disk``."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(files, "os_write", disk.write))
        for owner, name, operation in (
            (os, "fsync", "fsync"), (os, "open", "open"), (io, "open", "read"),
            (Path, "replace", "replace"), (Path, "mkdir", "mkdir"),
        ):  # fmt: skip
            wrapped = disk.wrap(operation, getattr(owner, name))
            stack.enter_context(patch.object(owner, name, wrapped))
        yield disk


def in_a_child(action: Callable[[], object]) -> bool:
    """Run ``action`` in a fork of this process; returns whether it finished."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
