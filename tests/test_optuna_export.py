"""The Optuna export: units and names of the objectives, interruptions, and what is added later."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from archsearch.optuna_export import export_optuna
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record
from tests import toy

WRITES: tuple[tuple[Any, str], ...] = (
    (optuna.Study, "add_trial"),
    (RDBStorage, "create_new_study"),
    (RDBStorage, "set_study_system_attr"),
    (RDBStorage, "set_trial_param"),
    (RDBStorage, "set_trial_user_attr"),
    (RDBStorage, "set_trial_intermediate_value"),
    (RDBStorage, "set_trial_state_values"),
)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """Four networks: the first complete, the second failed, the others pending."""
    folder = StudyFolder(tmp_path / "g").create(toy.study(4), toy.DATA)
    for trial in folder.trials():
        folder.trial(trial.id).write_spec(trial)
    finish(folder, 0)
    finish(folder, 1, status="failed", kind="crash")
    return folder


def finish(folder: StudyFolder, index: int, **values: Any) -> None:
    trial = folder.trial(folder.ids()[index])
    accuracies = {1: 60.0, 2: 80.0 + index}
    curve = tuple(
        {"epoch": e, "val_accuracy": a, "seconds": 1.0, "peak_memory_bytes": 2e9}
        for e, a in accuracies.items()
    )
    metrics = {"val_accuracy": accuracies[2], "peak_memory_bytes": 2e9}
    trial.write_record(replace(Record(trial.id, "complete", metrics, curve, seconds=9.0), **values))


@contextmanager
def study_in(url: str) -> Iterator[optuna.Study]:
    storage = RDBStorage(url)
    try:
        yield optuna.load_study(study_name="g", storage=storage)
    finally:
        storage.engine.dispose()


def trials_in(url: str) -> list[FrozenTrial]:
    with study_in(url) as study:
        return study.trials


def content(url: str) -> list[tuple[Any, ...]]:
    """What a reader sees of every trial, without times."""
    return [
        (t.number, t.state.name, t.values, t.params, t.user_attrs, t.intermediate_values)
        for t in trials_in(url)
    ]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/x.db"


@pytest.mark.parametrize(
    ("objectives", "value", "curve"),
    [
        (["val_accuracy"], 80.0, {1: 60.0, 2: 80.0}),
        (["val_error"], 20.0, {1: 40.0, 2: 20.0}),
        (["memory"], 2.0, {1: 2.0, 2: 2.0}),
        (["seconds"], 9.0, {}),
        (["params"], None, {}),
    ],
)
def test_a_curve_has_the_unit_of_the_value(
    folder: StudyFolder, url: str, objectives: list[str], value: float | None, curve: Any
) -> None:
    export_optuna(folder.path, url, objectives)
    trial = trials_in(url)[0]
    assert value is None or trial.value == value
    assert trial.intermediate_values == curve


def test_the_objectives_have_their_names(folder: StudyFolder, url: str) -> None:
    export_optuna(folder.path, url, ["val_accuracy", "macs"])
    with study_in(url) as study:
        assert study.metric_names == ["val_accuracy", "macs"]


def test_exporting_again_writes_nothing_twice(folder: StudyFolder, url: str) -> None:
    assert export_optuna(folder.path, url) == 4
    before = content(url)
    assert export_optuna(folder.path, url) == 0
    assert content(url) == before


def test_a_later_export_adds_what_the_run_has_had_since(folder: StudyFolder, url: str) -> None:
    """An enqueued trial gets its result, a retried one a new trial, an added cell its own."""
    export_optuna(folder.path, url)
    finish(folder, 2)
    folder.trial(folder.ids()[1]).set_record_aside()
    finish(folder, 1)
    folder.create(toy.study(5), toy.DATA, extend=True)
    assert export_optuna(folder.path, url) == 3
    states = [(t.user_attrs["trial"], t.state.name) for t in trials_in(url)]
    ids = [t.id for t in toy.study(5).trials(toy.DATA)]
    expected = ["COMPLETE", "FAIL", "COMPLETE", "WAITING", "COMPLETE", "WAITING"]
    assert states == list(zip([*ids[:4], ids[1], ids[4]], expected, strict=True))
    finished = trials_in(url)[2]
    assert finished.intermediate_values == {1: 60.0, 2: 82.0}
    assert finished.params
    assert export_optuna(folder.path, url) == 0


def test_a_retried_training_that_fails_in_another_way_is_a_new_trial(
    folder: StudyFolder, url: str
) -> None:
    export_optuna(folder.path, url)
    folder.trial(folder.ids()[1]).set_record_aside()
    finish(folder, 1, status="failed", kind="crash", error="another reason")
    assert export_optuna(folder.path, url) == 1
    assert [t.user_attrs.get("error") for t in trials_in(url)][-1] == "another reason"
    assert export_optuna(folder.path, url) == 0


def stop_after(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Ctrl-C before the write of that number."""
    left = iter(range(number))
    for owner, name in WRITES:
        write = getattr(owner, name)

        def counted(*args: Any, write: Any = write, **options: Any) -> Any:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return write(*args, **options)

        monkeypatch.setattr(owner, name, counted)


def export_interrupted(folder: StudyFolder, url: str) -> int:
    """Export, stopped before its first write, then before its second, until it is done."""
    for number in range(100):
        with pytest.MonkeyPatch.context() as monkeypatch:
            stop_after(monkeypatch, number)
            try:
                export_optuna(folder.path, url)
            except KeyboardInterrupt:
                continue
            return number
    raise AssertionError("the export never ends")


def test_an_interrupted_export_is_completed_by_the_same_call(
    folder: StudyFolder, tmp_path: Path
) -> None:
    """Also one that fills in enqueued trials; the database then equals an uninterrupted one."""
    uninterrupted, interrupted = (f"sqlite:///{tmp_path}/{name}.db" for name in "ab")
    for index in (2, None):
        export_optuna(folder.path, uninterrupted)
        assert export_interrupted(folder, interrupted) > 4
        assert content(interrupted) == content(uninterrupted)
        if index is not None:
            finish(folder, index)


def refused(run: Path, url: str, objectives: Sequence[str] = ()) -> str:
    before = content(url)
    with pytest.raises(ValueError, match="already holds a study named 'g'") as error:
        export_optuna(run, url, objectives)
    assert content(url) == before
    return str(error.value)


def test_a_study_of_another_run_or_objective_is_not_mixed(
    folder: StudyFolder, url: str, tmp_path: Path
) -> None:
    export_optuna(folder.path, url, ["val_accuracy"])
    assert "the objectives val_accuracy" in refused(folder.path, url, ["val_loss"])
    other = StudyFolder(tmp_path / "other/g").create(toy.study(2, seeds=(7,)), toy.DATA)
    assert "other trials or values: give another database" in refused(other.path, url)


def test_a_study_of_the_users_own_is_not_touched(folder: StudyFolder, url: str) -> None:
    storage = RDBStorage(url)
    study = optuna.create_study(study_name="g", storage=storage, direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    storage.engine.dispose()
    assert "other trials" in refused(folder.path, url)


def test_the_test_split_is_no_objective(folder: StudyFolder, url: str) -> None:
    with pytest.raises(ValueError, match="test_accuracy is measured on the test split"):
        export_optuna(folder.path, url, ["test_accuracy"])
    assert not Path(url.removeprefix("sqlite:///")).exists()
