"""Study and trial folders: identity, state, locks, changed questions, odd names."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch import results
from archsearch.core.budget import Budget
from archsearch.core.cell import Cell
from archsearch.core.plans import MoreSeeds, Plan, Search
from archsearch.families.internimage import FreeVariant
from archsearch.storage import files, lock
from archsearch.storage.request import study_of
from archsearch.storage.study_folder import StudyFolder, TrialFolder, checked_name
from archsearch.study import Record, Study
from tests import toy


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "toy").create(toy.study(), toy.DATA, ["archsearch", "grid"])


@pytest.fixture
def trial(folder: StudyFolder) -> TrialFolder:
    first = folder.trials()[0]
    trial = folder.trial(first.id)
    trial.write_spec(first)
    return trial


def record(trial: TrialFolder, **values: object) -> Record:
    return Record(trial.id, "complete", {"val_accuracy": 50.0}, **values)  # type: ignore[arg-type]


def test_a_study_comes_back_from_its_folder_as_it_was(folder: StudyFolder) -> None:
    asked = folder.open().request()

    assert folder.study() == toy.study()
    stored = json.loads(json.dumps(toy.study().to_dict()))
    assert study_of({**stored, "data": {"name": "toy"}}) == toy.study()
    assert folder.data() == toy.DATA
    assert asked["command"] == ["archsearch", "grid"]
    assert asked["created"].endswith("+00:00")
    assert asked["versions"]["torch"]


def test_cells_that_share_a_network_share_one_trial(folder: StudyFolder) -> None:
    cells = folder.request()["cells"]

    assert len(folder.trials()) == 3
    assert folder.ids() == tuple(trial.id for trial in folder.trials())
    assert cells[3]["trials"] == cells[0]["trials"]
    assert cells[4]["trials"] == {}


def test_the_state_is_read_off_the_files(folder: StudyFolder, trial: TrialFolder) -> None:
    assert set(folder.states().values()) == {"pending"}
    with trial.lock():
        assert trial.state() == "running"
    trial.append_event({"epoch": 1})
    assert trial.state() == "interrupted"
    trial.write_record(record(trial))
    assert folder.states()[trial.id] == trial.state() == "complete"


def test_a_record_is_written_once(trial: TrialFolder) -> None:
    trial.write_record(record(trial))
    with pytest.raises(RuntimeError, match="once"):
        trial.write_record(record(trial))
    assert trial.record() == record(trial)


def test_a_record_counts_the_attempts_that_broke(trial: TrialFolder) -> None:
    trial.append_attempt({"error": "worker died"})
    trial.write_record(record(trial, notes=("slow",)))
    found = trial.record()
    assert found is not None
    assert (found.attempts, found.notes) == (2, ("slow",))


def test_every_truncation_of_a_record_is_no_record(trial: TrialFolder) -> None:
    trial.write_record(record(trial))
    path = trial.path / "record.json"
    for size in reversed(range(path.stat().st_size - 1)):
        os.truncate(path, size)
        assert trial.glance() is None, size
        assert trial.record() is None, size
    trial.write_record(record(trial))
    found = trial.record()
    assert found is not None
    assert found.notes == ("damaged, not used: record.json.corrupt",)


def test_a_damaged_record_of_an_earlier_failure_stops_nothing(trial: TrialFolder) -> None:
    trial.write_record(Record(trial.id, "failed", kind="crash"))
    trial.set_record_aside()
    aside = trial.path / "record.failed-1.json"
    aside.write_bytes(aside.read_bytes()[:40])
    trial.write_record(Record(trial.id, "failed", kind="data"))
    failed = trial.record()
    assert failed is not None
    assert failed.notes == ("damaged, not used: record.failed-1.json",)
    trial.set_record_aside()  # and overwrites none
    assert aside.stat().st_size == 40
    assert [old.kind for old in trial.earlier_records()] == ["data"]
    trial.write_record(record(trial))
    found = trial.record()
    assert found is not None
    assert found.notes == ("damaged, not used: record.failed-1.json", "failed before: data")


def test_every_truncation_of_the_events_keeps_the_whole_lines(trial: TrialFolder) -> None:
    for epoch in (1, 2, 3):
        trial.append_event({"epoch": epoch, "val_accuracy": 10.0 * epoch})
    path = trial.path / "events.jsonl"
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        before = trial.events()
        assert before == [json.loads(line) for line in whole[: size + 1].split(b"\n")[:-1]]
        trial.append_event({"epoch": 9})
        assert trial.events() == [*before, {"epoch": 9}], size


def test_a_repeated_epoch_counts_once_in_the_curve(trial: TrialFolder) -> None:
    for epoch, loss in ((1, 3.0), (2, 2.0), (2, 1.0)):
        trial.append_event({"epoch": epoch, "train_loss": loss})
    trial.append_event({"note": "no epoch"})
    assert [event["train_loss"] for event in trial.curve()] == [3.0, 1.0]


def test_nan_becomes_null_on_disk(trial: TrialFolder) -> None:
    trial.append_event({"epoch": 1, "losses": [float("nan"), 1.0], "lr": float("inf")})
    assert trial.events() == [{"epoch": 1, "losses": [None, 1.0], "lr": None}]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (toy.study(lr=0.2), "recipe.lr: 0.1 there, 0.2 asked"),
        (toy.study(cells=2), "cell c1=16, l1=3: there, not asked"),
        (toy.study(cells=4), "cell c1=16, l1=4: not there, asked"),
        (toy.study(seeds=(0, 1)), "seed 1: not there, asked"),
        (dataclasses.replace(toy.study(), name="other"), "name: 'toy' there, 'other' asked"),
    ],
)
def test_another_study_in_the_folder_is_refused_with_the_difference(
    folder: StudyFolder, changed: Study, words: str
) -> None:
    before = folder.request()
    with pytest.raises(ValueError, match="holds another study") as refusal:
        folder.create(changed, toy.DATA)
    assert words in str(refusal.value)
    assert "--out" in str(refusal.value)
    assert folder.request() == before


def test_other_data_is_refused_and_moved_data_is_not(folder: StudyFolder) -> None:
    with pytest.raises(ValueError, match="fingerprint"):
        folder.create(toy.study(), dataclasses.replace(toy.DATA, fingerprint="0"), extend=True)
    folder.create(toy.study(), dataclasses.replace(toy.DATA, name="elsewhere"))
    assert folder.data().name == "elsewhere"


def test_another_recipe_is_refused_even_when_extending(folder: StudyFolder) -> None:
    with pytest.raises(ValueError, match=r"recipe\.lr"):
        folder.create(toy.study(cells=4, lr=0.2), toy.DATA, extend=True)


def test_extending_adds_and_never_takes_away(folder: StudyFolder) -> None:
    old = {trial.id for trial in folder.trials()}
    other = dataclasses.replace(toy.study(), cells=(toy.cell(7),), seeds=(1,))
    folder.create(other, toy.DATA, ["again"], extend=True)

    assert len(folder.trials()) == 2 * (3 + 1)
    assert old < {trial.id for trial in folder.trials()}
    assert folder.request()["command"] == ["again"]  # the first would be refused now
    assert folder.request()["commands_before"] == [["archsearch", "grid"]]
    assert folder.study().cells[:5] == toy.study().cells


def test_extending_by_nothing_is_told_and_keeps_the_command(
    folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    before = folder.request()
    less = dataclasses.replace(toy.study(), cells=(toy.cell(1),))
    folder.create(less, toy.DATA, ["again"], extend=True)
    assert folder.request() == before
    assert f"--extend adds nothing: the plan in {folder.path}" in caplog.text


SEARCH = Search("four", {"c1": (16,)}, "tpe", ("val_accuracy",), 0, 1, 0.05)


@pytest.mark.parametrize(
    "plan", [MoreSeeds, lambda number: dataclasses.replace(SEARCH, num_trials=number)]
)
def test_extending_never_shrinks_a_plan(
    tmp_path: Path, plan: Callable[[int], Plan], caplog: pytest.LogCaptureFixture
) -> None:
    folder = StudyFolder(tmp_path / "toy")
    for number, planned in ((80, 80), (60, 80), (90, 90)):
        study = dataclasses.replace(toy.study(), plan=plan(number))
        folder.create(study, toy.DATA, [str(number)], extend=True)
        assert folder.study().plan == plan(planned)
        assert folder.request()["command"] == [str(planned)]
    assert caplog.text.count("adds nothing") == 1


def test_other_words_are_no_other_study(folder: StudyFolder) -> None:
    folder.create(dataclasses.replace(toy.study(), question="Really?"), toy.DATA)
    assert folder.study().question == "Really?"


def test_what_earlier_numerics_trained_is_read_under_its_ids_and_not_gone_on_with(
    folder: StudyFolder, trial: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.write_record(record(trial))
    extra = dataclasses.replace(folder.trials()[0], seed=99)  # as a search launches them
    folder.trial(extra.id).write_spec(extra)
    ids = folder.ids()
    for module in ("archsearch.study", "archsearch.storage.request"):
        monkeypatch.setattr(f"{module}.NUMERICS", 2)
    assert tuple(found.id for found in folder.trials()) == ids
    assert folder.trial(extra.id).trial().seed == 99
    (first,) = (t for t in results.load(folder.path).trials if t.record is not None)
    assert (first.trial.id, first.state) == (trial.id, "complete")
    with pytest.raises(ValueError, match="numerics: 1 there, 2 asked"):
        folder.create(toy.study(), toy.DATA)
    with pytest.raises(ValueError, match="another version of archsearch"):
        trial.write_spec(first.trial)


def test_a_trial_launched_beyond_the_plan_belongs_to_the_study(folder: StudyFolder) -> None:
    extra = dataclasses.replace(folder.trials()[0], seed=99)
    folder.trial(extra.id).write_spec(extra)
    assert folder.trials()[-1] == extra
    assert folder.ids()[-1] == extra.id


def test_a_spec_follows_data_that_moved(trial: TrialFolder) -> None:
    moved = dataclasses.replace(trial.trial(), data=dataclasses.replace(toy.DATA, name="new"))
    trial.write_spec(moved)
    assert trial.trial() == moved


def test_a_spec_in_the_wrong_folder_is_refused(folder: StudyFolder, trial: TrialFolder) -> None:
    wrong = folder.trial("0" * 16)
    wrong.path.mkdir()
    (wrong.path / "spec.json").write_bytes((trial.path / "spec.json").read_bytes())
    with pytest.raises(ValueError, match=f"describes the trial {trial.id}"):
        wrong.trial()


@pytest.mark.parametrize("what", ["study", "trial"])
def test_a_newer_layout_is_refused_in_words(
    folder: StudyFolder, trial: TrialFolder, what: str
) -> None:
    path = folder.path / "study.json" if what == "study" else trial.path / "spec.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 9}))
    with pytest.raises(ValueError, match="layout 9, this archsearch reads"):
        _ = folder.open() if what == "study" else trial.trial()


def test_a_damaged_study_is_told_and_written_again_by_its_command(folder: StudyFolder) -> None:
    path = folder.path / "study.json"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        folder.open()
    folder.create(toy.study(), toy.DATA)
    assert folder.open().study() == toy.study()
    assert path.with_name("study.json.corrupt").exists()


def test_a_folder_without_a_study_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no study"):
        StudyFolder(tmp_path).open()


def test_a_folder_that_cannot_be_written_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot write in .*Choose another folder with --out"):
        StudyFolder(tmp_path / "file" / "toy").create(toy.study(), toy.DATA)
    with pytest.raises(ValueError, match="cannot write in"):
        StudyFolder(Path("/proc/toy")).create(toy.study(), toy.DATA)
    with pytest.raises(ValueError, match=r"cannot write in .*name too long"):
        StudyFolder(tmp_path / ("n" * 300)).create(toy.study(), toy.DATA)


@pytest.mark.parametrize("bad", ["", "../../etc", "A" * 16, "0" * 15, "0" * 17, "0" * 16 + "\n"])
def test_only_ids_become_paths(folder: StudyFolder, bad: str) -> None:
    with pytest.raises(ValueError, match="16 hexadecimal digits"):
        folder.trial(bad)


@pytest.mark.parametrize(
    "bad",
    ["", " ", ".", "..", "a/b", "/abs", "..\\up", "-rf", ".hidden", "nul\0", "line\nbreak",
     "é" * 61, "right\u202eleft", "lone\udcff", "a:b", "trailing."],
)  # fmt: skip
def test_names_that_are_no_folder_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a study"):
        checked_name(bad)


def test_a_study_with_such_a_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    study = dataclasses.replace(toy.study(), name="../../etc")
    with pytest.raises(ValueError, match="cannot be the name of a study"):
        StudyFolder(tmp_path / "toy").create(study, toy.DATA)
    assert not list(tmp_path.iterdir())


def test_a_study_of_free_variants_goes_on_without_being_written_again(tmp_path: Path) -> None:
    free = FreeVariant((16, 32, 64, 128), (1, 2, 4, 8), (1, 1, 2, 1))
    study = dataclasses.replace(toy.study(), cells=(Cell({"i": 0}, "exact", free, None),))
    folder = StudyFolder(tmp_path / "toy").create(study, toy.DATA)
    assert folder.study() == study
    before = (folder.path / "study.json").stat().st_ino
    folder.create(study, toy.DATA)
    assert (folder.path / "study.json").stat().st_ino == before


@pytest.mark.parametrize(
    "good", ["grid-30M", "größe", "网格", "a b", "emoji 🦊", "x" * 120, "a..b"]
)
def test_odd_names_that_are_folders_work(tmp_path: Path, good: str) -> None:
    folder = StudyFolder(tmp_path / checked_name(good)).create(toy.study(), toy.DATA)
    assert folder.states()


@given(st.text(max_size=150))
def test_a_name_is_refused_or_stays_one_folder(name: str) -> None:
    try:
        checked = checked_name(name)
    except ValueError:
        return
    assert Path("/runs", checked).parent == Path("/runs")
    assert len(os.fsencode(checked)) < 255


def test_one_driver_per_folder_and_the_other_is_named(folder: StudyFolder) -> None:
    with folder.lock():
        with pytest.raises(lock.Locked, match=f"process {os.getpid()} on .* --out"):
            StudyFolder(folder.path).lock(0.05).__enter__()
        with pytest.raises(lock.Locked):
            folder.create(toy.study(), toy.DATA)
    with folder.lock(0):
        pass


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_lock_is_not_kept_by_a_forked_child(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock.hold(path):
        ready, go = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
        assert lock.is_held(path)
    try:
        assert not lock.is_held(path)
    finally:
        os.write(go[1], b"x")
        assert os.waitpid(child, 0)[1] == 0
        for fd in (*ready, *go):
            os.close(fd)


def test_asking_for_a_lock_does_not_take_it(tmp_path: Path) -> None:
    assert not lock.is_held(tmp_path / "lock")
    with lock.hold(tmp_path / "lock"):
        assert lock.is_held(tmp_path / "lock")
    assert not lock.is_held(tmp_path / "lock")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with files.new_file(tmp_path) as file:
        file.write(b"never published")
    assert files.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_planning_and_folders_load_no_heavy_library() -> None:
    heavy = {"torch", "ray", "optuna", "pandas", "numpy"}
    modules = "archsearch.storage.study_folder, archsearch.storage.checkpoint"
    code = f"import {modules}, sys; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "archsearch.storage.study_folder" in loaded
    assert heavy.isdisjoint(loaded)


def test_a_study_of_the_first_layout_is_read_and_resumed(tmp_path: Path) -> None:
    """Layout 1 called a cell's request ``asked``, and spread a search's space over its plan."""
    plan = Search("four", {"c1": (16, 32), "l1": (1,)}, "tpe", ("val_accuracy",), 0, 3, 0.05)
    study = dataclasses.replace(toy.study(), plan=plan, budget=Budget.parse("1M"))
    folder = StudyFolder(tmp_path / "toy").create(study, toy.DATA, ["archsearch"])
    new = json.loads((folder.path / "study.json").read_text())
    old = {**new, "schema": 1, "plan": {**new["plan"], **new["plan"]["space"]}}
    del old["plan"]["space"]
    for cell in old["cells"]:
        cell["asked"] = cell.pop("requested")
    (folder.path / "study.json").write_text(json.dumps(old))
    assert folder.study() == study
    assert folder.create(study, toy.DATA, ["archsearch"]).study() == study
    assert json.loads((folder.path / "study.json").read_text()) == old  # nothing to write
