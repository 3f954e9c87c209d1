"""Every fault of the storage at every operation, for every kind of plan.

The same command then finishes: nothing is lost, nothing is trained twice, and the results equal
those of a run without faults. The trainings are toys.
"""

import errno
import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch

from archsearch import results
from archsearch.api import full_training, latency, session, train
from archsearch.api.options import Launch
from archsearch.core.budget import Budget
from archsearch.core.plans import Halve, MoreSeeds, Search
from archsearch.families.internimage import Variant
from archsearch.latency import timing as latency_timing
from archsearch.reproduce import reproduce
from archsearch.running import timing, train_full, train_trial
from archsearch.running.stopping import StudyStopped
from archsearch.space.grid import Space
from archsearch.space.step_budget import StepBudget
from archsearch.storage.files import TEMP_PREFIX
from archsearch.storage.status import study_status
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record, Study, Trial
from archsearch.training import data
from internimage.description import Description
from studies import scale
from studies.latency import LatencyGrid
from tests import toy
from tests.disk import DEADLY, FAULTS, Disk, Fault, failing, in_a_child

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

SPACE = {"c1": (16, 32), "group_channels": (16,), "l1": (1, 2)}
ONE_EPOCH = toy.recipe(epochs=1)
TINY = Variant(8, 4, 1, 1)

GRID = toy.study(cells=2, epochs=1)
STUDIES: dict[str, Study] = {
    "grid": GRID,
    "ladder": scale.study(
        recipe=ONE_EPOCH, alpha=1.2, beta=1.3, origin=Variant(16, 16, 1, 1), data="toy",
        budget=Budget.parse("1M"),
    ),
    "more seeds": replace(GRID, seeds=(0, 1), plan=MoreSeeds(3)),
    "halving": replace(GRID, plan=Halve("data_fraction", True, rungs=2)),
    "search": replace(
        GRID, cells=(), budget=Budget.parse("0.5M"),
        plan=Search("four", SPACE, "tpe", ("val_accuracy",), 0, 5, 0.5),
    ),
    "search over twelve": replace(
        GRID, cells=(), budget=Budget.parse("30M"),
        plan=Search("twelve", {}, "random", ("val_accuracy",), 0, 2, 0.4),
    ),
}  # fmt: skip

BY_LATENCY = LatencyGrid(
    space=Space(TINY, {"c1": (8, 16), "group_channels": (4,), "l1": (1,)}),
    budget=StepBudget(1e-3, 0.2), target="cpu", recipe=ONE_EPOCH, data="toy",
)  # fmt: skip

Command = Callable[[Path], object]

STOPPED = r"1: stopped: the storage failed: /.*: [A-Z](.|\n)*[Rr]esume"


def run_study(study: Study, path: Path) -> None:
    launch = Launch(out=path, runner="inline", quote=False)
    session.train_and_report(study, launch, ["archsearch", "toy"])


def run_by_latency(path: Path) -> None:
    launch = Launch(out=path, runner="inline", quote=False)
    latency.train_planned(BY_LATENCY, launch, ["archsearch", "toy"])


def run_reproduction(path: Path) -> None:
    """The run itself is finished before the disk can fail."""
    assert reproduce(path, "best", seed=7).value is not None


def run_training(path: Path) -> None:
    options = full_training.FullTraining(out=path, data="toy", epochs=1)
    assert train.train_network("8-4-1-1", options).weights.exists()


COMMANDS: dict[str, Command] = {
    **{name: partial(run_study, study) for name, study in STUDIES.items()},
    "latency": run_by_latency,
    "reproduction": run_reproduction,
    "training": run_training,
}


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "describe", lambda *_: toy.DATA)
    monkeypatch.setattr(train_trial, "train_trial", toy.train)
    monkeypatch.setattr(train_full, "_train", train_in_full)
    monkeypatch.setattr(train_full, "describe_weights", lambda *_: Description())
    monkeypatch.setattr(session, "write_reports", lambda _: None)
    monkeypatch.setattr(latency, "write_reports", lambda _: None)
    monkeypatch.setattr(latency_timing, "latency", toy_latency)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power is cut, and real ones take long


def toy_latency(trial: Trial, *_: object) -> float:
    return 1e-5 * trial.variant.params()["c1"] * trial.variant.num_blocks


def train_in_full(folder: Path, request: Any, *_: object) -> None:
    """As `archsearch.running.train_full`: an event, a checkpoint and a record."""
    trial = train_full.training_folder(folder)
    torch.manual_seed(0)
    model = request.variant.build(toy.DATA.num_classes)
    trial.save_checkpoint({"model": model.state_dict(), "average": None}, 1)
    epoch = {"epoch": 1, "epochs": 1, "seconds": 1.0, "train_loss": 1.0, "val_accuracy": 50.0}
    trial.append_event(epoch)
    trial.write_record(Record("", "complete", {"val_accuracy": 50.0}, curve=(epoch,)))


def prepare(name: str, path: Path) -> None:
    """What the command finds."""
    if name == "reproduction":
        run_study(GRID, path)


def outcome(command: Command, path: Path) -> str:
    try:
        command(path)
    except StudyStopped as stopped:
        return f"{stopped.exit_code}: {stopped}"
    return "finished"


def run_with(fault: Fault, at: int, command: Command, path: Path) -> str:
    def run() -> str:
        with failing(Disk(path, fault, at)):
            return outcome(command, path)

    if fault in DEADLY:
        return "finished" if in_a_child(run) else "killed"
    return run()


def files(path: Path, name: str) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob(name))}


def check_readers(path: Path) -> None:
    """Whatever happened, a study can be read."""
    for study_file in path.rglob("study.json"):
        folder = StudyFolder(study_file.parent)
        ids = folder.ids()
        assert tuple(trial.id for trial in folder.trials()) == ids
        assert tuple(folder.states()) == ids
        assert {row["trial"] for row in study_status(folder.path).rows} == set(ids)
        results.load(folder.path)


def outcomes(path: Path) -> dict[str, Any]:
    """All results, and which files there are."""
    studies = {
        str(p.parent.relative_to(path)): StudyFolder(p.parent) for p in path.rglob("study.json")
    }
    return {
        "results": {name: toy.results(folder) for name, folder in studies.items()},
        "files": [_name(p.relative_to(path)) for p in sorted(path.rglob("*")) if p.is_file()],
    }


def _name(path: Path) -> str:
    return "a checkpoint" if path.name.startswith("checkpoint-") else str(path)


def reference(name: str, path: Path) -> Disk:
    """The log of a run without faults."""
    prepare(name, path)
    with failing(Disk(path)) as disk:
        assert outcome(COMMANDS[name], path) == "finished"
    return disk


def check(name: str, fault: Fault, at: int, path: Path, expected: dict[str, Any]) -> None:
    prepare(name, path)
    ended = run_with(fault, at, COMMANDS[name], path)
    assert ended in ("finished", "killed") or re.match(STOPPED, ended), ended
    assert ended == "killed" or fault not in DEADLY
    assert not files(path, "attempts.jsonl"), "the storage made a trial fail"
    check_readers(path)
    records = files(path, "record.json")
    assert outcome(COMMANDS[name], path) == "finished"
    assert outcomes(path) == expected
    assert records.items() <= files(path, "record.json").items(), "a trial was trained twice"
    assert not list(path.rglob(TEMP_PREFIX + "*"))


QUICK = ("grid", "halving", "training")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in COMMANDS]
)
def test_a_fault_at_each_kind_of_operation_loses_nothing(tmp_path: Path, name: str) -> None:
    """One fault at the last operation of each kind, and every fault where the folder of the first
    trial and of the last one gets its spec."""
    disk = reference(name, tmp_path / "reference")
    expected = outcomes(tmp_path / "reference")
    last = {kind: at for at, kind in enumerate(disk.log)}
    cases = list(zip(last.values(), cycle(FAULTS)))
    folders = [n for n, kind in enumerate(disk.log) if re.fullmatch("mkdir .*/trials/ID", kind)]
    assert bool(folders) == (name != "training")
    for at in {*folders[:1], *folders[-1:]}:
        cases += [(at + after, fault) for after in (1, 2, 3) for fault in FAULTS]
    assert len(cases) > 10
    for number, (at, fault) in enumerate(cases):
        check(name, fault, at, tmp_path / str(number), expected)


@pytest.mark.parametrize(
    ("module", "name"),
    [(timing, "time_steps"), (session, "write_reports")],
    ids=["estimate", "report"],
)
def test_the_estimate_and_the_report_pause_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "/data/file")

    study, launch = toy.study(cells=4, epochs=1), Launch(out=tmp_path / "run", runner="inline")
    with monkeypatch.context() as patch:
        patch.setattr(module, name, fail)
        with pytest.raises(StudyStopped) as stopped:
            session.train_and_report(study, launch, ["archsearch", "toy"])
    assert "storage failed: /data/file: Input/output error" in str(stopped.value)
    assert "archsearch toy" in str(stopped.value)
    run_study(study, tmp_path / "run")
    assert set(StudyFolder(tmp_path / "run").states().values()) == {"complete"}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", COMMANDS)
def test_no_fault_at_any_operation_loses_anything(tmp_path: Path, name: str, fault: Fault) -> None:
    disk = reference(name, tmp_path / "reference")
    expected = outcomes(tmp_path / "reference")
    step = 1 if name != "training" else 7  # one checkpoint is hundreds of writes
    for at in range(0, len(disk.log), step):
        check(name, fault, at, tmp_path / str(at), expected)
