"""Run a command and kill its process: ``python -m archsearch.testing.killed STEPS grid ...``.

After so many optimizer steps the process kills itself with SIGKILL, which no code can catch.
"""

import os
import signal
import sys
from unittest.mock import patch

from archsearch.cli import main
from archsearch.core.task import Batch
from archsearch.training.state import Training
from archsearch.training.step import take_step


def run_and_kill(steps: int, command: list[str]) -> None:
    """Run ``archsearch`` with these arguments; the trainings must run in this process."""
    left = iter(range(steps))

    def counted(training: Training, batch: Batch) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        take_step(training, batch)

    with (
        patch("archsearch.training.loop.take_step", counted),
        patch.object(sys, "argv", ["archsearch", *command]),
    ):
        main()


if __name__ == "__main__":
    run_and_kill(int(sys.argv[1]), sys.argv[2:])
