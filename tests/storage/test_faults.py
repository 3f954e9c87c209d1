"""Injected faults: killed drivers and workers, damaged files, full disks.

Nothing is lost, nothing is trained twice, and the records equal those of a run without faults. The
long tests are marked slow.
"""

import errno
import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from archsearch.core.interrupted import Interrupted
from archsearch.running.run import StudyStopped, run_study
from archsearch.storage import files
from archsearch.storage.study_folder import StudyFolder
from tests import toy
from tests.disk import in_a_child
from tests.processes import has_ended, wait_for
from tests.running.toy_runs import drive


def run(folder: StudyFolder, work: str = "train") -> Any:
    return run_study(folder, folder.trials(), runner="inline", work=f"tests.toy:{work}")


def kill_until_done(folder: StudyFolder, runner: str, seed: int) -> int:
    """Start the driver repeatedly and kill it after some epochs; returns the number of kills."""
    generator = random.Random(seed)
    for kills in range(50):
        enough = num_epochs(folder) + generator.randint(1, 4)
        with drive(folder, runner, "train_slowly") as process:
            while process.poll() is None and num_epochs(folder) < enough:
                time.sleep(0.005)
            time.sleep(generator.uniform(0, 0.1))
            process.kill()
        if process.returncode == 0:
            return kills
    raise AssertionError("no progress in 50 starts")


def num_epochs(folder: StudyFolder) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.path.glob("trials/*/events.jsonl"))


def test_a_driver_killed_at_random_points_loses_nothing(tmp_path: Path) -> None:
    folder = toy.create(tmp_path / "toy", cells=4)
    assert kill_until_done(folder, "local", seed=1) > 0
    assert toy.results(folder) == toy.expected_results(folder)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("runner", ["inline", "local", "ray"])
def test_no_kill_of_the_driver_loses_anything(tmp_path: Path, runner: str, seed: int) -> None:
    folder = toy.create(tmp_path / "toy", cells=4)
    kill_until_done(folder, runner, seed)
    assert toy.results(folder) == toy.expected_results(folder)


def check_power_cuts(tmp_path: Path, cells: int) -> int:
    """Cut the power at the n-th write, flush or rename, for every n; that write is half done."""
    for n in range(1000):
        path = tmp_path / str(n)
        finished = in_a_child(partial(run_until_cut, path, cells, n))
        folder = toy.create(path, cells)
        assert run(folder) == {"complete": cells}
        assert toy.results(folder) == toy.expected_results(folder), n
        assert not list(path.rglob(files.TEMP_PREFIX + "*")), n
        if finished:
            return n
    raise AssertionError("it never finished")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_driver_killed_anywhere_loses_nothing(tmp_path: Path) -> None:
    assert check_power_cuts(tmp_path, cells=1) > 20


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_driver_killed_anywhere_between_trials_loses_nothing(tmp_path: Path) -> None:
    assert check_power_cuts(tmp_path, cells=3) > 50


def run_until_cut(path: Path, cells: int, n: int) -> None:
    left = iter(range(n))

    def cut_before(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            if next(left, None) is None:
                if call is os.write:
                    os.write(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args)

        return counted

    files.os_write = cut_before(os.write)
    os.fsync = cut_before(os.fsync)
    Path.replace = cut_before(Path.replace)  # type: ignore[method-assign]
    run(toy.create(path, cells))


def test_workers_of_a_killed_driver_exit_and_release_their_trials(tmp_path: Path) -> None:
    folder = toy.create(tmp_path / "toy", cells=4)
    with drive(folder, "local", "ignore_stop") as process:
        pids = wait_for(lambda: pids_of(folder, 2))
        process.kill()
    wait_for(lambda: all(has_ended(pid) for pid in pids))
    assert "running" not in folder.states().values()
    assert run(folder) == {"complete": 4}


def pids_of(folder: StudyFolder, num: int) -> list[int]:
    pids = [path.read_text() for path in folder.path.glob("trials/*/pid")]
    return [int(pid) for pid in pids if pid] if len(pids) >= num else []


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    folder = toy.create(tmp_path / "toy", cells=4)
    killed: set[int] = set()
    with drive(folder, "local", "train_slowly_the_second_time") as process:
        while len(killed) < 4:
            for pid in wait_for(lambda: set(pids_of(folder, 1)) - killed):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert toy.results(folder) == toy.expected_results(folder)
    assert [r.attempts for r in folder.records(folder.ids()).values()] == [2, 2, 2, 2]


def test_of_two_drivers_one_works_and_the_other_reports_the_lock(tmp_path: Path) -> None:
    folder = toy.create(tmp_path / "toy", cells=4)
    with (
        drive(folder, "local", "train_slowly") as one,
        drive(folder, "local", "train_slowly") as other,
    ):
        errors = [process.communicate(timeout=60)[1] for process in (one, other)]
    codes = sorted((one.returncode, other.returncode))
    assert codes in ([0, 1], [0, 0])  # both 0: the second started after the first had finished
    assert codes == [0, 0] or "is in use by process" in "".join(errors)
    assert toy.results(folder) == toy.expected_results(folder)


class FillingDisk:
    """Accepts a number of writes, half of the next, and then none until it is free."""

    def __init__(self, writes: int) -> None:
        self.left = writes
        self.free = False

    def write(self, fd: int, data: Any) -> int:
        self.left -= 1
        if self.free or self.left >= 0:
            return os.write(fd, data)
        if self.left == -1 and len(data) > 1:
            return os.write(fd, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


WRITES_TO_BEGIN = 1
"""study.json; a study that has started stops with its own message, not the system's."""


def final_message(path: Path, work: str) -> str:
    try:
        folder = toy.create(path, cells=2)
    except OSError as error:
        return str(error)
    try:
        run(folder, work)
    except StudyStopped as stopped:
        return str(stopped)
    return "finished"


def check_full_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str, step: int) -> int:
    """Fill the disk at every ``step``-th write, then free it; returns the number of writes."""
    for writes in range(0, 10_000, step):
        disk = FillingDisk(writes)
        monkeypatch.setattr(files, "os_write", disk.write)
        path = tmp_path / str(writes)
        message = final_message(path, work)
        assert message == "finished" or "storage failed" in message or writes < WRITES_TO_BEGIN
        assert not list(path.glob("trials/*/attempts.jsonl"))
        disk.free = True
        folder = toy.create(path, cells=2)
        run(folder, work)
        assert toy.results(folder) == toy.expected_results(folder), writes
        assert not list(path.rglob(files.TEMP_PREFIX + "*")), writes
        if message == "finished":
            return writes
    raise AssertionError("it never finished")


def test_a_disk_that_fills_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_full_disks(tmp_path / "events", monkeypatch, "train", step=1) > 10
    assert check_full_disks(tmp_path / "checkpoints", monkeypatch, "train_with_torch", 13) > 50


@pytest.mark.slow
def test_a_disk_that_fills_at_any_write_of_a_checkpoint_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_full_disks(tmp_path, monkeypatch, "train_with_torch", step=1)


def check_truncations(tmp_path: Path, step: int) -> None:
    """Truncate every file of a study with a finished and an interrupted trial."""
    folder = toy.create(tmp_path / "toy", cells=2)
    finished, interrupted = folder.trials()
    run_study(folder, [finished], runner="inline", work="tests.toy:train_with_torch")
    interrupt(folder, interrupted.id)
    contents = snapshot(folder.path)
    for name in sorted(contents):
        if name.endswith("lock"):
            continue
        for size in range(0, len(contents[name]), step):
            restore(folder.path, contents)
            (folder.path / name).write_bytes(contents[name][:size])
            again = toy.create(folder.path, cells=2)
            assert run(again, "train_with_torch") == {"complete": 2}, (name, size)
            assert toy.results(again) == toy.expected_results(again), (name, size)


def interrupt(folder: StudyFolder, trial_id: str) -> None:
    """Leave the trial as a power cut after its second epoch, with a failed attempt."""
    calls = iter((False, False, True))
    trial = folder.trial(trial_id)
    trial.write_spec(next(t for t in folder.trials() if t.id == trial_id))
    with pytest.raises(Interrupted):
        toy.train_with_torch(trial.path, "cpu", lambda: next(calls))
    trial.append_attempt({"kind": "crash", "error": "worker died", "epoch": 2})


def snapshot(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def restore(path: Path, contents: dict[str, bytes]) -> None:
    for file in path.rglob("*"):
        if file.is_file():
            file.unlink()
    for name, content in contents.items():
        (path / name).write_bytes(content)


def test_truncated_files_are_recovered(tmp_path: Path) -> None:
    check_truncations(tmp_path, step=397)


@pytest.mark.slow
def test_every_truncation_of_any_file_is_recovered(tmp_path: Path) -> None:
    check_truncations(tmp_path, step=7)
