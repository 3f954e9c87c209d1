"""What is said before training about a device that is slow in the recipe's precision."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archsearch.core.recipes import QUICK
from archsearch.running.preflight import precision_warning
from archsearch.training import machine

BF16 = replace(QUICK, precision="bf16")
HASWELL = "processor\t: 0\nflags\t\t: fpu sse2 avx2 fma\nmodel name\t: Xeon\n"


def use_processor(cpu_info: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpu_info)
    monkeypatch.setattr(machine, "CPU_INFO", path)


@pytest.mark.parametrize(
    ("cpu_info", "lacks"),
    [
        (HASWELL, True),
        (HASWELL.replace("fma", "fma avx512_bf16"), False),
        (HASWELL.replace("fma", "amx_bf16 amx_tile"), False),
        ("Features\t: fp asimd i8mm bf16\n", False),
        ("Features\t: fp asimd\n", True),
        ("", False),  # another system: nothing is known
    ],
)
def test_bf16_instructions_are_those_that_linux_lists(
    cpu_info: str, lacks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_processor(cpu_info, tmp_path, monkeypatch)
    assert machine.lacks_bf16() is lacks


def test_only_bf16_on_such_a_processor_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_processor(HASWELL, tmp_path, monkeypatch)
    monkeypatch.setattr(machine, "gpus", lambda: ())
    for device in ("auto", "cpu", "cpu*2"):
        assert "--set precision=fp32" in precision_warning(BF16, device)
    assert precision_warning(QUICK, "cpu") == precision_warning(BF16, "cuda") == ""
    monkeypatch.setattr(machine, "gpus", lambda: ("GPU-a",))
    assert precision_warning(BF16, "auto") == ""
    use_processor(HASWELL.replace("fma", "avx512_bf16"), tmp_path, monkeypatch)
    assert precision_warning(BF16, "cpu") == ""


COMMANDS = (
    ("train", "16-8-1-1", "--device", "cpu"),
    ("grid", "--budget", "0.65M", "--c1", "16", "--group-channels", "8", "--l1", "1"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_train_warn_first(
    command: tuple[str, ...], run_cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_processor(HASWELL, tmp_path, monkeypatch)
    small = ("--epochs", "1", "--set", "data_fraction=0.1", "--out", str(tmp_path / "out"))
    code, _, stderr = run_cli(*command, *small, "--set", "precision=bf16", "--device", "cpu")
    assert code == 0, stderr
    warning = stderr.index("has no bf16 instructions: a step takes up to 9 times as long")
    assert warning < stderr.index("epoch" if command[0] == "train" else "Report:")
