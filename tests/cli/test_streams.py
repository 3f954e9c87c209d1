"""Streams that are closed, narrow or left, and Ctrl-C while modules are loaded."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

MAIN = "from archsearch.cli import main; main()"
LADDER = ("scale", "--alpha", "1.09", "--beta", "1.36", "--plan")
TINY = (
    "grid", "--budget", "0.3M", "--c1", "8", "--group-channels", "4", "--l1", "1", "--epochs", "1",
    "--set", "data_fraction=0.05", "--no-quote", "--runner", "inline", "--out", "run",
)  # fmt: skip

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def command(tmp_path: Path) -> Run:
    def run(*arguments: str, code: str = MAIN, shell: str = "", **options: Any) -> Any:
        line = [sys.executable, "-c", code, *arguments]
        if shell:
            line = ["bash", "-c", f'"$@" {shell}', "bash", *line]
        pipes: dict[str, int | IO[Any]] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
        return subprocess.run(line, cwd=tmp_path, env=environment, **{**pipes, **options})

    return run


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_a_table_is_printed_in_every_encoding(command: Run, encoding: str) -> None:
    done = command(*LADDER, env={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding)
    assert "alpha 1.09  beta 1.36  phi 0" in text


def test_json_keeps_every_character_in_a_narrow_encoding(command: Run) -> None:
    wide, narrow = (
        command("exponent", "--format", "json", env={"PYTHONIOENCODING": encoding}).stdout
        for encoding in ("utf-8", "ascii")
    )
    assert json.loads(wide.decode()) == json.loads(narrow.decode("ascii"))


def test_a_path_that_is_not_utf8_is_named(command: Run) -> None:
    done = command("status", os.fsdecode(b"run-\xff"), env={"PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 2
    assert rb"run-\udcff holds no study" in done.stderr


def test_a_command_with_a_closed_stdout_does_its_work(command: Run) -> None:
    done = command(*TINY, "--plan", shell=">&-")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_training_with_a_closed_stderr_is_silent_and_complete(
    command: Run, tmp_path: Path
) -> None:
    done = command(*TINY, shell="2>&-")
    assert (done.returncode, done.stdout) == (0, b"")
    assert len(list(tmp_path.glob("run/trials/*/record.json"))) == 1
    assert (tmp_path / "run/reports/report.html").exists()


def test_an_error_with_a_closed_stderr_is_only_an_exit_code(command: Run) -> None:
    done = command("grid", "--budget", "banana", shell="2>&-")
    assert (done.returncode, done.stdout) == (2, b"")


def without_reader() -> IO[bytes]:
    """Return the end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "wb")


@pytest.mark.parametrize("arguments", [("count", "T"), ("grid", "--plan", "--format", "json")])
def test_a_reader_that_has_left_ends_the_command_quietly(
    command: Run, arguments: tuple[str, ...]
) -> None:
    with without_reader() as pipe:
        done = command(*arguments, stdout=pipe)
    assert (done.returncode, done.stderr) == (141, b"")


def test_messages_that_nobody_reads_stop_nothing(command: Run, tmp_path: Path) -> None:
    with without_reader() as pipe:
        done = command(*TINY, stderr=pipe)
    assert (done.returncode, done.stdout) == (0, b"")
    assert len(list(tmp_path.glob("run/trials/*/record.json"))) == 1


def test_results_that_cannot_be_written_are_an_error(command: Run) -> None:
    with Path("/dev/full").open("wb") as full:
        assert command("count", "T", stdout=full).returncode == 2


CTRL_C = """
import os, signal, sys
class PressCtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, PressCtrlC())
"""


@pytest.mark.parametrize("name", ["archsearch.cli.commands", "typer", "archsearch.study", "rich"])
def test_ctrl_c_while_modules_are_loaded_is_quiet(command: Run, name: str) -> None:
    """The last one is loaded by a running command. The tests may ignore Ctrl-C, as with nohup."""
    heeded = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    done = command("count", "T", code=heeded + CTRL_C.format(name=name) + MAIN)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_a_command_in_the_background_ignores_ctrl_c_from_the_start(command: Run) -> None:
    ignored = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    done = command("count", "T", code=f"{ignored}\n{CTRL_C.format(name='typer')}{MAIN}")
    assert done.returncode == 0
