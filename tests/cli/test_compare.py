"""The command that compares families: pilots, resuming, and refusals."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import archsearch as a
from archsearch.api import session, step_times
from archsearch.api.compare_request import parse_budget
from archsearch.core.family import Family
from archsearch.core.interrupted import Stop
from archsearch.results import TrialResult
from archsearch.storage.resume import resume_command
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Record
from tests.stored import edit

BUDGET = ("--budget", "50K", "--tolerance", "0.2", "--set-axis", "Net.width=20,24,28",
          "Thin.width=24,32")  # fmt: skip
SHORT = ("--epochs", "1", "--set", "data_fraction=0.1", "--device", "cpu", "--no-quote",
         "--runner", "inline")  # fmt: skip
FAMILIES = "tests.families.toy_family:Net,thin.py:Thin"
THIN = """
from dataclasses import dataclass
from torch import nn
from archsearch import Family

@dataclass(frozen=True)
class Thin(Family):
    width: int
    depth: int
    solved = "depth"

    def build(self, num_classes):
        layers = [nn.Conv2d(3, self.width, 8, 8)]
        for _ in range(self.depth):
            layers += [nn.Conv2d(self.width, self.width, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                             nn.Linear(self.width, num_classes))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "thin.py").write_text(THIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*options: str) -> tuple[str, ...]:
    return ("compare", "--families", FAMILIES, *BUDGET, *options)


def records(run: Path) -> dict[str, bytes]:
    """The records of the run and of its pilots, by their paths."""
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("record.json")}


def test_a_stopped_comparison_trains_nothing_twice(
    folder: Path, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*SHORT, "--rates", "1e-3,4e-3", "--cells", "1", "--seeds", "2")
    run, trained, stop_at = folder / "runs/compare-50K-digits", list[str](), list[str]()

    def stopped(one: Any, launch: Any, run: Path) -> Any:
        if one.study().name in stop_at:
            raise KeyboardInterrupt
        before = set(one.launched())
        counts = train(one, launch, run)
        trained.extend(set(one.launched()) - before)
        return counts

    train = session._train
    monkeypatch.setattr(session, "_train", stopped)
    for name, num_records in {"pilot-rates": 0, "pilot-cells": 6, "compare": 9}.items():
        stop_at[:] = [name]
        assert run_cli(*command(*options))[0] == 130
        assert len(records(run)) == num_records
        assert run_cli("status", str(run))[0] == 0
    stop_at.clear()
    earlier = records(run)
    code, _, err = run_cli(*command(*options))
    assert code == 0, err
    finished = records(run)
    assert {path: finished[path] for path in earlier} == earlier
    # 4 pilots for the rates; 5 cells, 2 of them trained already; then 2 cells with 2 seeds
    assert len(trained) == len(set(trained)) == 4 + 3 + 4
    again = a.compare(
        FAMILIES.split(","), budget="50K", tolerance=0.2, rates=[1e-3, 4e-3], cells=1, seeds=2,
        values={"Net.width": [20, 24, 28], "Thin.width": [24, 32]}, epochs=1,
        set={"data_fraction": 0.1}, device="cpu", runner="inline", quote=False,
    )  # fmt: skip
    assert records(again.folder) == finished
    assert {chosen(t) for t in again.results.trials} == expected(run)
    assert run_cli("report", str(run), "--verify")[0] == 0
    assert {"families.png", "families.csv", "pilots.md", "one-recipe.md"} <= {
        path.name for path in (run / "reports").iterdir()
    }
    assert run_cli("export", str(run), "--records", "copy")[0] == 0
    assert records(folder / "copy") == finished
    pilot = next((folder / "copy/pilot-rates/trials").glob("*/record.json"))
    edit(pilot, lambda record: record["metrics"].update(val_accuracy=0.5))
    code, _, err = run_cli("report", "copy", "--verify")
    assert code == 1
    assert "tables.pilots" in err
    (folder / "wide.py").write_text(THIN.replace("Thin", "Wide"))
    longer = [*command(*options, "--extend"), "--set-axis", "Wide.width=24,28"]
    longer[longer.index(FAMILIES)] = f"{FAMILIES},wide.py:Wide"
    assert run_cli(*longer)[0] == 0
    extended = records(run)
    assert {path: extended[path] for path in finished} == finished
    assert len(extended) == len(finished) + 2 + 2 + 2
    pilots = StudyFolder(run / "pilot-rates")
    resumed = resume_command(pilots.request()["command"], pilots.path)
    assert resumed.startswith(f"archsearch compare --families {FAMILIES},wide.py:Wide")
    assert resumed.endswith(f"--out {run}")


def chosen(result: TrialResult) -> tuple[Family, float, int]:
    return result.trial.variant, result.trial.recipe.lr, result.trial.seed


def expected(run: Path) -> set[tuple[Family, float, int]]:
    """The networks, rates and seeds that the values of the pilots choose, by another way."""
    best: dict[str, tuple[float, Any]] = {}
    for pilots in ("pilot-rates", "pilot-cells"):
        for result in a.load(run / pilots).results.trials:
            assert result.record is not None
            value = result.record.metrics["val_accuracy"]
            key = f"{pilots} {type(result.trial.variant).__name__}"
            if value is not None and value > best.get(key, (-1.0,))[0]:
                best[key] = (value, result.trial)
    return {
        (best[f"pilot-cells {name}"][1].variant, best[f"pilot-rates {name}"][1].recipe.lr, seed)
        for name in ("Net", "Thin")
        for seed in (0, 1)
    }


def test_a_plan_and_an_estimate_include_the_pilots(run_cli: Any, folder: Path) -> None:
    options = ("--rates", "1e-3,4e-3", "--cells", "2", "--seeds", "3", "--plan")
    code, out, err = run_cli(*command(*options, "--format", "json"))
    assert code == 0
    rows = json.loads(out)
    assert [(row["requested_family"], row["width"]) for row in rows] == [
        ("Net", 20), ("Net", 24), ("Net", 28), ("Thin", 24), ("Thin", 32)
    ]  # fmt: skip
    assert "2 pilots of each family" in err
    assert "one pilot per network (3 of Net, 2 of Thin)" in err
    assert "4 networks x 3 seed(s)" in err
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (["--families", "internimage,swim"], ["a family is internimage, convnext"]),
        (["--families", "convnext"], ["a comparison needs two families or more, got convnext"]),
        (["--families", "convnext,internimage,convnext"], ["got convnext twice"]),
        (
            ["--rates", "1e-3,0", "--cells", "0", "--seeds", "0,10000", "--budget", "3"],
            ["rates must be different numbers above 0", "cells must be all or a whole number",
             "seeds must not have 10,000", "a budget is a positive number"],
        ),
        (
            ["--set-axis", "c1=8", "--set-axis", "vit.c1=8", "--switch", "norm=pre"],
            ["set-axis must begin with a family", "no family vit here", "switch must begin"],
        ),
        (["--set-axis", "convnext.c9=8", "--switch", "convnext.norm=pre"], ["no switch norm"]),
        (["--seeds", "auto", "--set", "lr=1"], ["seeds must be a number", "give --rates"]),
        (["--budget", "2M macs", "--by", "params"], ["is in macs, and --by is params"]),
        (["--budget", "2M", "--by", "seconds"], ["such as 2ms or 500us", "got '2M'"]),
        (["--budget", "1K"], ["no cell of internimage", "convnext can", "or a larger --tolerance"]),
        (["--device", "gpu", "--rates", "x"], ["device must be", "rates must be"]),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_together(
    run_cli: Any, folder: Path, options: Sequence[str], messages: Sequence[str]
) -> None:
    families = () if "--families" in options else ("--families", "internimage,convnext")
    code, _, err = run_cli("compare", *families, *options)
    assert code == 2
    for message in messages:
        assert message in err
    assert [path.name for path in folder.iterdir()] == ["thin.py"]


def test_the_folder_of_another_study_is_refused(run_cli: Any, folder: Path) -> None:
    grid = ("grid", "--family", "thin.py:Thin", "--budget", "50K", "--set-axis", "width=24,32",
            *SHORT, "--out", "run")  # fmt: skip
    assert run_cli(*grid)[0] == 0
    code, _, err = run_cli(*command(*SHORT, "--out", "run"))
    assert code == 2
    assert "holds the study grid-Thin: choose another folder" in err
    assert not (folder / "run/pilot-rates").exists()


def fake_times(folder: Path, device: str, stop: Stop) -> None:
    """The work of a timing: 0.01 ms per block and channel, and some noise."""
    del device, stop
    trial_folder = TrialFolder(folder)
    trial = trial_folder.trial()
    width, depth = trial.variant.numbers
    noise = (0.3 if width == 28 else 0.01) * (trial.seed - 2)
    metrics = {"seconds_per_image": 1e-5 * width * depth * (1 + noise)}
    trial_folder.write_record(Record(trial.id, "complete", metrics, cost=trial.variant.cost()))


def test_networks_of_one_time_are_measured_once(
    folder: Path, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_times, "WORK", f"{__name__}:fake_times")
    options = ("--budget", "1ms", "--by", "seconds", "--tolerance", "0.15", *SHORT,
               "--rates", "1e-3", "--set-axis", "Thin.width=24,32")  # fmt: skip
    axis = ("--set-axis", "Net.width=20,28")
    code, _, err = run_cli("compare", "--families", FAMILIES, *options, *axis)
    assert code == 2
    assert "the times are not stable" in err
    assert "28-4 60%" in err
    run = folder / "runs/compare-1ms-digits"
    timed = records(run)
    options = (*options, "--set-axis", "Net.width=20,24")
    for _ in range(2):
        code, _, err = run_cli("compare", "--families", FAMILIES, *options)
        assert code == 0, err
        finished = records(run)
        assert {path: finished[path] for path in timed} == timed
        timed = finished
    results = a.load(run).results
    sizes = {c.cell.variant.numbers for c in results.cells if c.cell.variant}
    assert sizes == {(20, 5), (24, 4), (32, 3)}  # 24-4 is also the network of Thin
    rows = (run / "reports/families.csv").read_text().splitlines()
    assert "milliseconds_per_image" in rows[0]
    assert run_cli("report", str(run), "--verify")[0] == 0
    assert "chosen to take 1ms per image" in (run / "reports/families.md").read_text()
    assert run_cli("compare", "--families", FAMILIES, *options, "--plan")[0] == 2


def test_a_budget_is_in_parameters_or_in_multiply_adds() -> None:
    assert str(parse_budget("2M", None, 0.05)) == "2M params"
    assert str(parse_budget("2M", "macs", 0.05)) == "2M macs"
    assert str(parse_budget("2G macs", "macs", 0.05)) == "2G macs"
    assert str(parse_budget("5G", None, 0.05)) == "5G macs"
    assert str(parse_budget("2ms", None, 0.05)) == "2ms"
