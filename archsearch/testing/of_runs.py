"""Checks of a family's runs: trained, killed and resumed, reported, exported.

The run of the checks has two trainings of one network. One copy of it is trained in this process
without interruption. The other is a command whose process is killed in the middle of the second
training, and which is then repeated in a new process. All numbers of both must be equal.
"""

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from archsearch.api.calls import command_of
from archsearch.api.keywords import from_options
from archsearch.api.options import Training
from archsearch.api.requests import Grid
from archsearch.reports.provenance import verify
from archsearch.results import load
from archsearch.running.run import run_study
from archsearch.running.train_trial import training_of
from archsearch.running.weights import Built, measured_weights, read_network, write_weights
from archsearch.storage import checkpoint
from archsearch.storage.publish import publish
from archsearch.storage.record_values import without_times
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Record
from archsearch.testing.subject import Subject, require
from archsearch.training.device import settings
from archsearch.training.measure import measure_test

CPU = torch.device("cpu")

MAIN = ("-c", "from archsearch.cli import main; main()")
"""The command line in a new Python process."""

MAX_DIFFERENCES = 5
"""How many differing numbers a message names."""


def check_trained(subject: Subject) -> None:
    """Two seeds train on the digits to the end."""
    options = subject.options
    study = from_options(Grid, options).study(from_options(Training, options))
    data = study.task.describe(study.data, study.recipe)
    folder = StudyFolder(whole(subject)).create(study, data, ["archsearch", "grid"])
    require(len(folder.ids()) == 2, f"wanted two trainings, got {len(folder.ids())}")
    run_study(folder, folder.trials(), runner="inline", device="cpu")
    for trial_id in folder.ids():
        record_of(folder.trial(trial_id))


def whole(subject: Subject) -> Path:
    """The folder of the run that is not interrupted."""
    return subject.folder / "whole"


def killed(subject: Subject) -> Path:
    """The folder of the run whose process is killed."""
    return subject.folder / "killed"


def record_of(trial: TrialFolder) -> Record:
    """The record of a trial that trained to the end; else an AssertionError with the reason."""
    record = trial.record()
    if record is None:
        raise AssertionError(f"the training {trial.id} has no record: it is {trial.state()}")
    reason = record.error.partition("\n")[0]
    require(record.status == "complete", f"a training {record.status}: {reason}")
    return record


def check_resumed(subject: Subject) -> None:
    """A killed run resumes with the same command to the same numbers; nothing is trained twice."""
    expected, folder = StudyFolder(whole(subject)), StudyFolder(killed(subject))
    first, second = (folder.trial(trial_id) for trial_id in expected.ids())
    command = _command(subject)
    _check_kill(subject, command)
    states = (first.state(), second.state())
    require(states == ("complete", "interrupted"), f"after the kill the trainings are {states}")
    record = (first.path / "record.json").read_bytes()
    done = _python(*MAIN, *command)
    require(second.record() is not None, f"the resumed command ended with {_end(done)}")
    for trial in (first, second):
        _check_same_training(expected.trial(trial.id), trial)
    unchanged = (first.path / "record.json").read_bytes() == record
    require(unchanged, "resuming trained the first network again, which was finished")
    require(done.returncode == 0, f"the resumed command ended with {_end(done)}")


def _command(subject: Subject) -> list[str]:
    """The arguments of ``archsearch`` that train the run, in the process of the command."""
    out = str(killed(subject))
    launch = {"out": out, "runner": "inline", "device": "cpu", "quote": False}
    return command_of(Grid, {**subject.options, **launch})[1:]


def _check_kill(subject: Subject, command: list[str]) -> None:
    """Kill the command in the middle of the last epoch of the second training."""
    folder = StudyFolder(whole(subject))
    (newest,) = checkpoint.stored(folder.trial(folder.ids()[0]).path)
    steps = newest.steps + 3 * newest.steps // 4
    done = _python("-m", "archsearch.testing.killed", str(steps), *command)
    was_killed = done.returncode == -signal.SIGKILL
    require(was_killed, f"the command was not killed at step {steps}, but ended with {_end(done)}")


def _python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a new Python process that finds every module that this one finds."""
    installed = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    paths = [path or "." for path in sys.path if not path.startswith(installed)]
    return subprocess.run(
        [sys.executable, *arguments], env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def _end(done: "subprocess.CompletedProcess[str]") -> str:
    last = "\n".join(done.stderr.strip().splitlines()[-MAX_DIFFERENCES:])
    return f"exit code {done.returncode}: {last}"


def _check_same_training(expected: TrialFolder, trial: TrialFolder) -> None:
    """Check that a resumed training has the numbers and the weights of a whole one."""
    pairs = (without_times(record_of(t).to_dict()) for t in (expected, trial))
    differences = list(_differences(*pairs))
    weights = [_weights(t) for t in (expected, trial)]
    differences += [
        f"the weights {name}"
        for name, value in weights[0].items()
        if not torch.equal(value, weights[1][name])
    ]
    text = "; ".join(differences[:MAX_DIFFERENCES])
    require(
        not differences,
        f"a resumed training differs from a whole one in {len(differences)} numbers: {text}. "
        "What a network computes with must be in its parameters and buffers, and random numbers "
        "must come from torch",
    )
    epochs = [event["epoch"] for event in trial.events() if "epoch" in event]
    require(epochs == [1, 2], f"the epochs {epochs} were trained, wanted 1 and 2")


def _differences(expected: Any, value: Any, name: str = "") -> list[str]:
    if isinstance(expected, Mapping) and isinstance(value, Mapping):
        return [
            line
            for key in {**expected, **value}
            for line in _differences(expected.get(key), value.get(key), f"{name} {key}".strip())
        ]
    if isinstance(expected, list) and isinstance(value, list) and len(expected) == len(value):
        pairs = enumerate(zip(expected, value, strict=True), 1)
        return [line for n, (a, b) in pairs for line in _differences(a, b, f"{name} {n}")]
    return [] if expected == value else [f"{name} {value!r}, without a kill {expected!r}"]


def _weights(trial: TrialFolder) -> dict[str, torch.Tensor]:
    stored = trial.load_checkpoint()
    require(stored is not None, f"the training {trial.id} has no checkpoint")
    assert stored is not None
    return measured_weights(stored[1])


def check_reported(subject: Subject) -> None:
    """The report of the run is drawn, and every number of it follows from the records."""
    found = verify(killed(subject))
    require(not found.differences, "; ".join(found.differences[:MAX_DIFFERENCES]))
    page = (killed(subject) / "reports" / "report.html").read_text()
    label = subject.variant.label
    require(label in page, f"the report does not name the network {label}")


def check_exported_records(subject: Subject) -> None:
    """A copy of the run without its weights has the same results."""
    copy = subject.folder / "copy"
    require(publish(killed(subject), copy) == 2, "the copy lacks a training")
    rows, copied = load(killed(subject)).rows(), load(copy).rows()
    require(rows == copied, f"the copy has {copied}, the run {rows}")


def check_exported_weights(subject: Subject) -> None:
    """Weights from a file give, in another process than trained them, the recorded test results."""
    folder = StudyFolder(killed(subject))
    trial_folder = folder.trial(folder.ids()[1])
    trial, state = trial_folder.trial(), _weights(trial_folder)
    path = subject.folder / "weights.safetensors"
    write_weights(Built(trial.variant, trial.recipe, trial.data.num_classes), state, path)
    with settings(trial.recipe, CPU):
        training = training_of(trial, CPU)
        training.model = read_network(path)
        measured = measure_test(training) or {}
    expected = record_of(trial_folder).metrics
    wrong = [
        f"test_{name} {value}, recorded {expected[f'test_{name}']}"
        for name, value in measured.items()
        if value != expected[f"test_{name}"]
    ]
    require(not wrong, f"the exported weights give other results: {'; '.join(wrong)}")
