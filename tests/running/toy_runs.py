"""Runs of toy studies, in this process and in others."""

import subprocess
import sys
from typing import Any

from archsearch.running.run import run_study
from archsearch.storage.study_folder import StudyFolder
from tests.processes import Process


def run(folder: StudyFolder, name: str, trials: Any = None, **options: Any) -> Any:
    plan = folder.trials() if trials is None else trials
    return run_study(folder, plan, **{"runner": "inline", "work": f"tests.toy:{name}", **options})


def drive(folder: StudyFolder, runner: str, name: str) -> Process:
    command = [sys.executable, "-m", "tests.toy", str(folder.path), runner, name]
    pipe = subprocess.PIPE
    return Process(command, stdout=pipe, stderr=pipe, text=True, process_group=0)
