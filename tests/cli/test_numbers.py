"""Numbers out of range, in every option that takes one: one clear error, exit code 2."""

from pathlib import Path
from typing import Any

import pytest
import typer

from archsearch.cli import commands

LONG, VERY_LONG = "9" * 400, "9" * 5000
FLOATS = ("nan", "inf", "-inf", "1e300", "1e400")
WORDS = {
    "tolerance": ("-1", *FLOATS),
    "budget": (f"{LONG}M", f"{VERY_LONG}M", LONG, "30\u212a", "1e999", "-30M"),
    "alpha": ("0", "-1", *FLOATS),
    "beta": ("0", "-1", *FLOATS),
    "max-hours": ("0", "-1", *FLOATS),
    "c1": ("0", "-5", LONG, VERY_LONG, "１６"),
    "l1": ("0", LONG),
    "seeds": ("0", "-1", "10001", LONG, VERY_LONG, f"auto:{LONG}", f"auto:{VERY_LONG}", "auto:1"),
    "epochs": ("0", "-3", LONG, VERY_LONG),
    "workers": ("0", "-1", LONG, VERY_LONG),
    "device": (f"cuda:{VERY_LONG}", "cuda:-1", "cuda:１"),
    "set": (
        "lr=nan", "lr=1e400", f"epochs={VERY_LONG}", f"batch_size={LONG}", f"threads={LONG}",
        f"image_size={LONG}", "mixup=inf", "drop_path=nan",
    ),
}  # fmt: skip
GRID = [(["grid", "--plan"], name, values) for name, values in WORDS.items() if name not in
        ("alpha", "beta")]  # fmt: skip
SCALE = [
    (["scale", "--plan", "--alpha", "1.1", "--beta", "1.3"], name, WORDS[name])
    for name in ("alpha", "beta", "budget", "tolerance")
]
OTHERS = [
    (["grid", "--plan", "--runner", "ray"], "gpus-per-trial", ("0", "-1", *FLOATS)),
    (["scale", "--plan"], "phi", ("0", "-1", "64", LONG, VERY_LONG)),
    (["search", "--plan"], "trials", ("0", "-1", LONG, VERY_LONG)),
    (["search", "--plan"], "search-seed", ("-1", LONG, VERY_LONG)),
    (["search", "--plan"], "c1", ("0", LONG, VERY_LONG)),
    (["count", "T"], "image-size", ("0", "-1", "0x3", "800x", LONG, VERY_LONG, f"1x{LONG}")),
    (["count", "T"], "kernel", ("0", "-3", "2", LONG, VERY_LONG)),
    (["count", "T"], "classes", ("0", LONG, VERY_LONG)),
    (["count", "T"], "layer-scale", FLOATS[:3]),
    (["count", "--group-channels", "16", "--l1", "4", "--l3", "18"], "c1", ("0", LONG, VERY_LONG)),
    (["report", "x"], "target", (f"{LONG}M", "30\u212a", "nan")),
    (["power"], "sd", ("0", "-1", *FLOATS)),
    (["power", "--sd", "1"], "effect", ("0", "-1", *FLOATS)),
    (["power", "--sd", "1"], "tests", ("0", "-1", LONG, VERY_LONG)),
    (["power", "--sd", "1"], "pairs", ("0", "1", LONG, VERY_LONG)),
    (["train", "T"], "seed", ("-1", LONG, VERY_LONG)),
    (["train", "T"], "gpus", ("0", LONG, VERY_LONG)),
    (["weight-sharing"], "batch-size", ("0", LONG, VERY_LONG)),
    (["weight-sharing"], "image-size", ("0", LONG, VERY_LONG)),
    (["throughput"], "size", ("0", LONG, VERY_LONG)),
    (["throughput"], "batch", ("0", LONG, VERY_LONG)),
    (["throughput"], "rounds", ("0", LONG, VERY_LONG)),
    (["receptive-field"], "size", ("0", LONG, VERY_LONG)),
    (["receptive-field"], "projections", ("0", LONG, VERY_LONG)),
    (["receptive-field"], "at", ("nan,nan", "inf,0", "1e400,0", "-1,0")),
    (["sampling-locations"], "block", (LONG, VERY_LONG)),
    (["robustness", "x"], "size", ("0", LONG, VERY_LONG)),
    (["robustness", "x"], "images", ("0", LONG, VERY_LONG)),
    (["reproduce", "x", "best"], "seed", ("-1", LONG, VERY_LONG)),
    (
        ["train", "8-4-1-1", "--task", "detect"],
        "head-width",
        ("0", "-1", "99999999", LONG, VERY_LONG),
    ),
]
CASES = [
    pytest.param([*command, f"--{name}={value}"], id=f"{command[0]} {name} {value:.12}")
    for command, name, values in (*GRID, *SCALE, *OTHERS)
    for value in values
]


@pytest.mark.parametrize("command", CASES)
def test_a_number_out_of_range_gets_one_clear_message(
    run_cli: Any, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli(*command)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert len(err) < 6000  # typer's own errors repeat the value
    assert list(tmp_path.iterdir()) == []


def test_every_option_that_is_a_number_is_tried_above() -> None:
    """A new option of a command has to be bounded, and added here."""
    group: Any = typer.main.get_command(commands.app)
    tried = {name for _, name, _ in (*GRID, *SCALE, *OTHERS)}
    numeric = {
        parameter.opts[0].removeprefix("--")
        for command in group.commands.values()
        for parameter in command.params
        if parameter.param_type_name == "option" and _is_number(parameter)
    }
    assert numeric - tried == set()


def _is_number(parameter: Any) -> bool:
    return any(word in str(parameter.type_descriptor.annotation) for word in ("int", "float"))
