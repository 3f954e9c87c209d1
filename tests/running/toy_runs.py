"""Runs of toy studies, in this process and in others."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from archsearch.running.run import run_study
from archsearch.storage.study_folder import StudyFolder


def run(folder: StudyFolder, name: str, trials: Any = None, **options: Any) -> Any:
    plan = folder.trials() if trials is None else trials
    return run_study(folder, plan, **{"runner": "inline", "work": f"tests.toy:{name}", **options})


def wait_for(happened: Callable[[], Any]) -> Any:
    """The value of ``happened()`` once it is true; waits at most a minute."""
    for _ in range(6000):
        if value := happened():
            return value
        time.sleep(0.01)
    raise AssertionError("it never happened")


def drive(folder: StudyFolder, runner: str, name: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.toy", str(folder.path), runner, name]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, process_group=0)


def has_ended(pid: int) -> bool:
    """Whether there is no such process, or only a zombie."""
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
