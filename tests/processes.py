"""Other processes: start them, wait for them."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Process(subprocess.Popen[str]):
    """A process that ends with its ``with`` block, also where the block fails.

    Popen would wait for it, and a test that failed would hang.
    """

    def __exit__(self, *error: Any) -> None:
        self.kill()
        super().__exit__(*error)


def wait_for(happened: Callable[[], Any]) -> Any:
    """The value of ``happened()`` once it is true; waits at most a minute."""
    for _ in range(6000):
        if value := happened():
            return value
        time.sleep(0.01)
    raise AssertionError("it never happened")


def has_ended(pid: int) -> bool:
    """Whether there is no such process, or only a zombie."""
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
