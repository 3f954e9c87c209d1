"""Time one study with two versions: ``python -m archsearch.benchmarks.grid_versions OLD NEW``.

OLD and NEW are commits of this repository, or folders with the code. Each runs the default grid (or
the command after ``--``) in a new folder, in turns, after one small study each that compiles the
operator. The result is the ratio of the median times, and the records of which any number differs,
times and memory aside. Nothing else may run on the machine meanwhile; where something does, the
ratio of CPU seconds says more.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsearch.core.versions import versions
from archsearch.storage.record_values import without_times
from archsearch.storage.study_folder import StudyFolder
from cuda_ops.toolchain import cpu_model

REPOSITORY = Path(__file__).parents[2]
DEFAULT_COMMAND = ["grid", "--budget", "30M"]
WARM_UP = [
    *("grid", "--budget", "0.65M", "--c1", "16", "--group-channels", "8", "--l1", "1"),
    *("--epochs", "1", "--set", "data_fraction=0.1"),
]
RecordValues = dict[str, Any]


@contextlib.contextmanager
def checkout(version: str) -> Iterator[Path]:
    """The folder ``version``, or a temporary one with the commit of that name.

    Raises:
        ValueError: there is no such folder or commit.
    """
    if Path(version).is_dir():
        yield Path(version).absolute()
        return
    git = ["git", "-C", str(REPOSITORY)]
    with tempfile.TemporaryDirectory() as parent:
        path = Path(parent, "code")
        add = [*git, "worktree", "add", "--detach", str(path), version]
        done = subprocess.run(add, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"no folder and no commit is called {version}: {done.stderr.strip()}")
        try:
            yield path
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(path)], check=True)


def seconds_of(code: Path, command: Sequence[str], out: Path) -> tuple[float, float]:
    """Seconds of ``archsearch COMMAND --out OUT`` with the code in a folder, and its CPU seconds.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    main = "from archsearch.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(code)}
    arguments = [sys.executable, "-c", main, *command, "--out", str(out)]
    started, cpu_started = time.perf_counter(), _cpu_seconds()
    subprocess.run(arguments, cwd=code, env=environment, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started, _cpu_seconds() - cpu_started


def _cpu_seconds() -> float:
    """CPU seconds of all processes that ended below this one."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def records_of(study: Path) -> dict[str, RecordValues]:
    """The records of a study by trial, without what was measured of the machine."""
    folder = StudyFolder(study)
    return {i: without_times(r.to_dict()) for i, r in folder.records(folder.ids()).items()}


def peak_bytes(study: Path) -> float:
    """The largest peak memory of the study's trainings."""
    folder = StudyFolder(study)
    peaks = (r.metrics.get("peak_memory_bytes") for r in folder.records(folder.ids()).values())
    return max((peak for peak in peaks if peak), default=0.0)


@dataclass(frozen=True)
class Run:
    """What one run of a study took, and its records by trial."""

    seconds: float
    cpu_seconds: float
    peak_bytes: float
    records: dict[str, RecordValues]

    @classmethod
    def of(cls, code: Path, command: Sequence[str]) -> "Run":
        """Run a command with the code in a folder; its study is discarded."""
        with tempfile.TemporaryDirectory() as parent:
            out = Path(parent, "study")
            return cls(*seconds_of(code, command, out), peak_bytes(out), records_of(out))


def compare(old: Path, new: Path, command: Sequence[str], rounds: int) -> dict[str, Any]:
    """Seconds, peaks and differing records of both versions, run in turns."""
    versions_of_code, runs = {"old": old, "new": new}, {"old": list[Run](), "new": list[Run]()}
    for code in versions_of_code.values():
        Run.of(code, WARM_UP)
    for _ in range(rounds):
        for name, code in versions_of_code.items():
            runs[name].append(run := Run.of(code, command))
            text = f"{name} {run.seconds:8.1f} s, {run.cpu_seconds:8.1f} CPU seconds"
            print(f"{text}, {len(run.records)} records", file=sys.stderr, flush=True)
    seconds = {name: [run.seconds for run in of_code] for name, of_code in runs.items()}
    cpu_seconds = {name: [run.cpu_seconds for run in of_code] for name, of_code in runs.items()}
    return {
        "command": list(command),
        "processor": cpu_model(),
        "versions": versions(),
        "seconds": seconds,
        "ratio": _ratio(seconds),
        "cpu_seconds": cpu_seconds,
        "cpu_ratio": _ratio(cpu_seconds),
        "peak_bytes": {
            name: max(run.peak_bytes for run in of_code) for name, of_code in runs.items()
        },
        "records": len(runs["old"][0].records),
        "different": _different(runs["old"] + runs["new"]),
    }


def _different(runs: Sequence[Run]) -> list[str]:
    """The trials whose records are not the same in all runs."""
    ids = {trial_id for run in runs for trial_id in run.records}
    expected = runs[0].records
    return sorted(i for i in ids if any(run.records.get(i) != expected.get(i) for run in runs))


def _ratio(seconds: Mapping[str, Sequence[float]]) -> float:
    return statistics.median(seconds["new"]) / statistics.median(seconds["old"])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options, and as ``command`` what follows ``--``."""
    parser = argparse.ArgumentParser(
        prog="python -m archsearch.benchmarks.grid_versions",
        usage="%(prog)s OLD NEW [--rounds N] [--out FILE] [-- COMMAND ...]",
        description=__doc__,
    )
    parser.add_argument("old", help="the earlier version: a commit or a folder with the code")
    parser.add_argument("new", help="the later version: a commit or a folder with the code")
    parser.add_argument("--rounds", type=int, default=3, help="run each version this many times")
    parser.add_argument("--out", type=Path, help="also write the result to this file, as JSON")
    arguments = sys.argv[1:] if arguments is None else arguments
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:end])
    options.command = arguments[end + 1 :] or DEFAULT_COMMAND
    if options.rounds < 1:
        parser.error(f"rounds must be 1 or more, got {options.rounds}")
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    with checkout(options.old) as old, checkout(options.new) as new:
        result = compare(old, new, options.command, options.rounds)
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    if result["different"]:
        sys.exit(f"{len(result['different'])} of {result['records']} records differ")


if __name__ == "__main__":
    main()
