"""A target: what its text means, and what is said of a command that fails."""

import sys
from pathlib import Path

import pytest

from archsearch.latency import target as target_module
from archsearch.latency.target import Target


def command(tmp_path: Path, code: str, arguments: str = "") -> Target:
    script = tmp_path / "a script.py"
    script.write_text(f"import sys, time\n{code}\n")
    return Target.parse(f"'{sys.executable}' '{script}' {arguments}")


def test_the_packages_of_a_target() -> None:
    assert Target.parse("cpu").packages == ()
    assert Target.parse(" onnxruntime ").packages == ("onnx", "onnxscript", "onnxruntime")
    board = Target.parse("ssh board bench {onnx}")
    assert (board.packages, board.is_local) == (("onnx", "onnxscript"), False)


@pytest.mark.parametrize("text", ["", "  ", "{onnx}", "bench 'x"])
def test_what_is_no_command_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^target "):
        Target.parse(text)


@pytest.mark.parametrize("arguments", ["", "{onnx}", "--model={onnx} 5"])
def test_the_last_number_is_the_latency(arguments: str, tmp_path: Path) -> None:
    code = "print('runs: 10'); print(sys.argv[1].endswith('a file.onnx')); print('mean 2.5e-3 s')"
    if arguments.endswith("5"):
        code += "; print(float(sys.argv[2]))"
    seconds = command(tmp_path, code, arguments).printed_seconds(tmp_path / "a file.onnx")
    assert seconds == (5 if arguments.endswith("5") else 2.5e-3)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('no board'); sys.exit(3)", r"failed with exit code 3; it printed:\nno board$"),
        ("print('x1 v2.onnx')", r"must print seconds above 0 .*\nx1 v2.onnx$"),
        ("print(-1.0)", r"must print seconds above 0"),
        ("print('1e999')", r"must print seconds above 0"),
        ("pass", r"must print .*\n\(nothing\)$"),
        ("print('\\n'.join(map(str, range(30))));sys.exit(1)", r"printed:\n20\n(\d+\n){8}29$"),
        ("print('begun', flush=True); time.sleep(9)", r"took longer than 0.5 s.*\nbegun$"),
    ],
)
def test_a_command_that_fails_says_why(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "TIMEOUT", 0.5 if "sleep" in code else 60.0)
    with pytest.raises(ValueError, match=message):
        command(tmp_path, code).printed_seconds(tmp_path / "m.onnx")


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no-such-bench cannot be started"):
        Target.parse("no-such-bench").printed_seconds(tmp_path / "m.onnx")
