"""The steps for a machine with a GPU: their order, limits, records and requirements."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cuda_ops import gpu_session, sanitizer_calls
from cuda_ops.gpu_session import Command
from tests.processes import Process, has_ended, wait_for

LIMIT_SECONDS = 600
SANITIZER_HELP = "  --kernel-name arg   --report-api-errors arg   --kernel-name-exclude arg"


def options_of(tmp_path: Path, baselines: Path | None = None) -> argparse.Namespace:
    return argparse.Namespace(out=tmp_path, baselines=baselines)


def shell(name: str, script: str, seconds: float = 30) -> Command:
    return Command(name, ("sh", "-c", script), seconds)


def test_a_step_that_fails_or_hangs_is_reported_and_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    steps = {
        "build": [shell("one", "echo output; echo wrong >&2; exit 3"), shell("two", "echo after")],
        "tests": [shell("hangs", "echo $$; sleep 60 & echo $!; wait", 0.5)],
        "bench": [Command("absent", ("no-such-program",), 5)],
        "step": [shell("works", "pwd")],
    }
    assert gpu_session.run(steps, out) == 3
    summary = json.loads((out / "summary.json").read_text())
    outcomes = {
        name: {command: record["outcome"] for command, record in (step or {}).items()}
        for name, step in summary.items()
    }
    assert outcomes == {
        "build": {"one": "failed with status 3", "two": "succeeded"},
        "tests": {"hangs": "timed out after 0.5 s"},
        "bench": {"absent": "no-such-program cannot be run: No such file or directory"},
        "step": {"works": "succeeded"},
        "sanitizers": {},
    }
    assert summary["sanitizers"] is None  # did not run
    assert "output\nwrong\n" in (out / "build.log").read_text()
    assert f"\n{gpu_session.ROOT}\n" in (out / "step.log").read_text()
    pids = [line for line in (out / "tests.log").read_text().splitlines() if line.isdecimal()]
    assert len(pids) == 2  # a child is killed too
    wait_for(lambda: all(has_ended(int(pid)) for pid in pids))
    printed = capsys.readouterr().out
    assert "== build, one: failed with status 3, 0 s\n" in printed
    assert printed.endswith("failed: build, tests, bench\n")


def test_the_summary_keeps_steps_that_ran_earlier(tmp_path: Path) -> None:
    assert gpu_session.run({"build": [shell("one", "true")]}, tmp_path) == 0
    assert gpu_session.run({"step": [shell("two", "true")]}, tmp_path) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [name for name, step in summary.items() if step] == ["build", "step"]


def test_running_commands_end_when_the_program_is_terminated(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from cuda_ops import gpu_session as g; "
        "g.parse = lambda _: g.argparse.Namespace(steps=['tests'], out=Path(sys.argv[1])); "
        "g.STEPS['tests'] = lambda _: [g.Command('a', ('sh', '-c', 'echo pid $$; sleep 60'), 60)]; "
        "g.main()"
    )
    log = tmp_path / "tests.log"
    with Process([sys.executable, "-c", program, str(tmp_path)]) as process:
        wait_for(lambda: log.exists() and "\npid " in log.read_text())
        process.terminate()
        assert process.wait() == 143
    wait_for(lambda: has_ended(int(log.read_text().rpartition("pid ")[2])))
    assert json.loads((tmp_path / "summary.json").read_text())["tests"] == {}


def test_a_command_that_starts_while_the_program_is_terminated_ends_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal arrives when the command runs, and before the program knows its number."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def interrupted(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **options))
        signal.raise_signal(signal.SIGTERM)
        return started[0]

    monkeypatch.setattr("subprocess.Popen", interrupted)
    handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with (tmp_path / "log").open("w") as log, pytest.raises(SystemExit):
            gpu_session.outcome_of(Command("a", ("sleep", "60"), 60), log)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert started[0].poll() == -signal.SIGKILL


@pytest.mark.parametrize("baselines", [None, Path("theirs")])
def test_the_documented_command_lines_stay_within_ten_minutes(
    tmp_path: Path, baselines: Path | None
) -> None:
    assert gpu_session.__doc__ is not None
    lines = [line for line in gpu_session.__doc__.splitlines() if "--steps " in line]
    parts = [line.partition("--steps ")[2].split(",") for line in lines if "--out" in line]
    assert [name for part in parts for name in part] == list(gpu_session.STEPS)
    for part in parts:
        commands = [c for n in part for c in gpu_session.STEPS[n](options_of(tmp_path, baselines))]
        assert sum(command.seconds for command in commands) <= LIMIT_SECONDS - 15
        arguments = [argument for command in commands for argument in command.arguments]
        assert ("theirs" in arguments) is (baselines is not None)


def test_steps_run_in_a_fixed_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        gpu_session.parse(["--steps", "tests,lint"])
    assert "build, tests, bench, step, sanitizers, got lint" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu_session.parse([])
    assert "torch sees no GPU here" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    options = gpu_session.parse(["--steps", "sanitizers,build", "--baselines", "theirs"])
    assert options.steps == ["build", "sanitizers"]
    assert options.out == tmp_path / "gpu_session"
    assert options.baselines == tmp_path / "theirs"


def test_the_sanitizer_checks_only_our_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    ours = ["--kernel-name", "kns=dcnv3"]
    assert gpu_session.sanitizer_options("racecheck", SANITIZER_HELP) == ours
    no_api_errors = ["--report-api-errors", "no"]
    assert gpu_session.sanitizer_options("memcheck", SANITIZER_HELP) == [*ours, *no_api_errors]
    old = "--kernel-regex arg"
    assert gpu_session.sanitizer_options("synccheck", old) == ["--kernel-regex", "kns=dcnv3"]
    assert capsys.readouterr().out == ""
    assert gpu_session.sanitizer_options("memcheck", "") == []
    assert capsys.readouterr().out == (
        "memcheck: no option to select kernels, so torch's are checked too\n"
        "memcheck: no option to ignore API errors, so torch's may be reported\n"
    )


def test_the_sanitizers_options_are_read_from_its_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "compute-sanitizer"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{SANITIZER_HELP}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    memcheck, *others = gpu_session.sanitizers(options_of(tmp_path))
    assert memcheck.arguments[:3] == (str(program), "--tool", "memcheck")
    assert "--report-api-errors" in memcheck.arguments
    assert [command.name for command in others] == ["racecheck", "initcheck", "synccheck"]
    assert all("kns=dcnv3" in command.arguments for command in (memcheck, *others))


def test_the_sanitizer_calls_run() -> None:
    assert sanitizer_calls.run_calls("cpu", "cpu") == 4 * len(sanitizer_calls.CALLS)


BARE = """
import sys
for name in ("xdist", "hypothesis", "optuna", "fvcore", "ray", "kornia", "sklearn", "pandas", "PIL",
             "scipy", "typer", "rich", "jinja2", "matplotlib"):
    sys.modules[name] = None
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_without_pytest_the_self_check_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pytest", None)
    (command,) = gpu_session.tests(options_of(tmp_path))
    assert command.arguments[-1] == "cuda_ops.sanitizer_calls"
    assert command.environment == {"ARCHSEARCH_CUDA_CHECK": "always"}
    assert "pytest is not installed" in capsys.readouterr().out


def test_the_gpu_tests_need_few_packages(tmp_path: Path) -> None:
    (command,) = gpu_session.tests(options_of(tmp_path))
    arguments = command.arguments[command.arguments.index("pytest") + 1 :]
    result = subprocess.run(
        [sys.executable, "-c", BARE, *arguments, "--collect-only", "-p", "no:cacheprovider"],
        cwd=gpu_session.ROOT,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "test_cuda_gpu.py::test_gradcheck" in result.stdout
    assert "test_op.py::test_equals_the_loops[plain-float64-cuda]" in result.stdout
    assert "-cpu]" not in result.stdout
