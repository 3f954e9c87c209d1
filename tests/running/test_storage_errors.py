"""Errors of the storage in a worker pause the study and never make a trial fail."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archsearch.running import work
from archsearch.running.run import StudyStopped
from archsearch.running.work import Job, death_kind, failure_kind, run_logged_attempt
from archsearch.storage.faults import storage_fault
from archsearch.storage.study_folder import StudyFolder
from archsearch.training.data import DataError
from tests import toy
from tests.running.toy_runs import run

NAMES = (
    "EIO", "ESTALE", "EROFS", "EFBIG", "EMFILE", "ENFILE", "EDQUOT", "EACCES", "ENOSPC", "ENOLCK",
)  # fmt: skip


def system_error(name: str) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("name", NAMES)
def test_the_study_pauses_and_names_path_and_reason(
    folder: StudyFolder, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise system_error(name)

    monkeypatch.setattr(toy, "broken", fail, raising=False)
    with pytest.raises(StudyStopped) as stopped:
        run(folder, "broken")
    trial = folder.trial(folder.ids()[0])
    reason = os.strerror(getattr(errno, name))
    assert f"stopped: the storage failed: {trial.path}: {reason}\n" in str(stopped.value)
    assert "Resume with: archsearch toy" in str(stopped.value)
    assert not trial.attempts()
    assert run(folder, "train") == {"complete": 3}


def test_the_kind_is_that_of_the_first_cause(tmp_path: Path) -> None:
    def caused(error: Exception, cause: Exception) -> Exception:
        error.__cause__ = cause
        return error

    assert failure_kind(caused(DataError("1.png is damaged"), system_error("EIO"))) == "storage"
    assert failure_kind(caused(DataError("1.png is damaged"), system_error("ENOENT"))) == "data"
    assert failure_kind(OSError("in a child: [Errno 5] Input/output error")) == "storage"
    assert failure_kind(OSError("image 5 is truncated (5)")) == "crash"
    unrelated = ValueError("x")
    unrelated.__context__, unrelated.__suppress_context__ = system_error("EIO"), True
    assert failure_kind(unrelated) == "crash"
    named = OSError(errno.EROFS, "Read-only file system", "/data/1.png")
    assert storage_fault(named, tmp_path) == "/data/1.png: Read-only file system"


def test_a_log_that_cannot_be_opened_is_an_error_of_the_storage(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def no_log(path: Path) -> Iterator[None]:
        raise OSError(errno.EROFS, "Read-only file system", str(path))
        yield

    monkeypatch.setattr(work, "output_to", no_log)
    outcome = run_logged_attempt(Job(str(folder.path), folder.ids()[0], "tests.toy:train", "cpu"))
    assert (outcome.end, outcome.kind) == ("failed", "storage")
    assert outcome.error.endswith("log.txt: Read-only file system")


def test_a_log_on_a_full_disk_changes_no_outcome(tmp_path: Path) -> None:
    """/dev/full takes nothing: what is printed stays in the buffer and appears elsewhere."""
    code = (
        "import os, sys; from pathlib import Path; from archsearch.running import work\n"
        "from archsearch.running.work import output_to\n"
        "work.open_plain = lambda path, flags: os.open('/dev/full', os.O_WRONLY)\n"
        "with output_to(Path(sys.argv[1])): print('inside')\n"
        "print('outside')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log.txt")]
    env = {**os.environ, "PYTHONUNBUFFERED": ""}
    ended = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    assert ended.stdout == "inside\noutside\n"


def test_a_worker_that_cannot_start_is_an_error_of_the_storage() -> None:
    start = "Traceback (most recent call last):\n  ...\n"
    assert death_kind(start + "OSError: [Errno 24] Too many open files: '/x.py'\n") == "storage"
    assert death_kind(start + "OSError: [Errno 2] No such file or directory: '/x'\n") == "crash"
    assert death_kind("OSError: [Errno 24] Too many open files\nlater output\n") == "crash"
    assert death_kind("") == "crash"
