"""Study and trial folders: identity, state, locks, changed requests, unusual names."""

import dataclasses
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archsearch import results
from archsearch.core.budget import Budget
from archsearch.core.cell import Cell
from archsearch.core.plans import MoreSeeds, Plan, Search
from archsearch.families.internimage import FreeVariant
from archsearch.storage.request import study_of
from archsearch.storage.status import study_status
from archsearch.storage.stored_json import read_json
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Study
from tests import toy
from tests.stored import edit


def test_a_study_is_read_unchanged_from_its_folder(folder: StudyFolder) -> None:
    request = folder.open().request()

    assert folder.study() == toy.study()
    stored = json.loads(json.dumps(toy.study().to_dict()))
    assert study_of({**stored, "data": {"name": "toy"}}) == toy.study()
    assert folder.data() == toy.DATA
    assert request["command"] == ["archsearch", "grid"]
    assert request["created"].endswith("+00:00")
    assert request["versions"]["torch"]


def test_cells_that_share_a_network_share_one_trial(folder: StudyFolder) -> None:
    cells = folder.request()["cells"]

    assert len(folder.trials()) == 3
    assert folder.ids() == tuple(trial.id for trial in folder.trials())
    assert cells[3]["trials"] == cells[0]["trials"]
    assert cells[4]["trials"] == {}


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (toy.study(lr=0.2), "recipe.lr: the folder has 0.1, requested 0.2"),
        (toy.study(cells=2), "cell c1=16, l1=3: in the folder, not requested"),
        (toy.study(cells=4), "cell c1=16, l1=4: requested, not in the folder"),
        (toy.study(seeds=(0, 1)), "seed 1: requested, not in the folder"),
        (
            dataclasses.replace(toy.study(), name="other"),
            "name: the folder has 'toy', requested 'other'",
        ),
    ],
)
def test_another_study_in_the_folder_is_refused_with_the_difference(
    folder: StudyFolder, changed: Study, difference: str
) -> None:
    before = folder.request()
    with pytest.raises(ValueError, match="holds another study") as error:
        folder.create(changed, toy.DATA)
    assert difference in str(error.value)
    assert "--out" in str(error.value)
    assert folder.request() == before


def test_other_data_is_refused_and_moved_data_is_not(folder: StudyFolder) -> None:
    with pytest.raises(ValueError, match="fingerprint"):
        folder.create(toy.study(), dataclasses.replace(toy.DATA, fingerprint="0"), extend=True)
    folder.create(toy.study(), dataclasses.replace(toy.DATA, name="elsewhere"))
    assert folder.data().name == "elsewhere"


def test_another_recipe_is_refused_even_when_extending(folder: StudyFolder) -> None:
    with pytest.raises(ValueError, match=r"recipe\.lr"):
        folder.create(toy.study(cells=4, lr=0.2), toy.DATA, extend=True)


def test_extending_adds_and_never_removes(folder: StudyFolder) -> None:
    old = {trial.id for trial in folder.trials()}
    other = dataclasses.replace(toy.study(), cells=(toy.cell(7),), seeds=(1,))
    folder.create(other, toy.DATA, ["again"], extend=True)

    assert len(folder.trials()) == 2 * (3 + 1)
    assert old < {trial.id for trial in folder.trials()}
    assert folder.request()["command"] == ["again"]  # the first would be refused now
    assert folder.request()["commands_before"] == [["archsearch", "grid"]]
    assert folder.study().cells[:5] == toy.study().cells


def test_extending_by_nothing_warns_and_keeps_the_command(
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


def test_another_question_is_the_same_study(folder: StudyFolder) -> None:
    folder.create(dataclasses.replace(toy.study(), question="Really?"), toy.DATA)
    assert folder.study().question == "Really?"


def test_trials_of_earlier_numerics_keep_their_ids_and_are_not_resumed(
    folder: StudyFolder, trial: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.write_record(toy.complete_record(trial))
    extra = dataclasses.replace(folder.trials()[0], seed=99)  # as a search launches them
    folder.trial(extra.id).write_spec(extra)
    ids = folder.ids()
    monkeypatch.setattr("archsearch.study.NUMERICS", 2)
    assert tuple(planned.id for planned in folder.trials()) == ids
    assert folder.trial(extra.id).trial().seed == 99
    (first,) = (t for t in results.load(folder.path).trials if t.record is not None)
    assert (first.trial.id, first.state) == (trial.id, "complete")
    with pytest.raises(ValueError, match="numerics: the folder has 1, requested 2"):
        folder.create(toy.study(), toy.DATA)
    with pytest.raises(ValueError, match="another version of archsearch"):
        trial.write_spec(first.trial)


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({}, False),
        ({"flip": True, "crop": "pad", "mixup": 0.8, "cutmix": 1.0}, False),
        ({"crop": "resized"}, True),
        ({"auto_augment": True}, True),
        ({"color_jitter": 0.4}, True),
        ({"erasing": 0.25}, True),
    ],
)
def test_only_trials_with_changed_augmentation_got_new_ids(
    change: dict[str, Any], changed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = toy.study()
    study = dataclasses.replace(study, recipe=dataclasses.replace(study.recipe, **change))
    stored = study.trials(toy.DATA)[0].to_dict()
    monkeypatch.setattr("archsearch.study.AUGMENTATION_NUMERICS", 0)
    earlier = study.trials(toy.DATA)[0].to_dict()
    different = {key for key in stored if stored[key] != earlier[key]}
    assert different == ({"id", "numerics"} if changed else set())


def test_a_study_of_earlier_augmentation_is_read_and_not_extended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = toy.study()
    study = dataclasses.replace(study, recipe=dataclasses.replace(study.recipe, erasing=0.25))
    with monkeypatch.context() as earlier:
        earlier.setattr("archsearch.study.AUGMENTATION_NUMERICS", 0)
        folder = StudyFolder(tmp_path / "toy").create(study, toy.DATA)
        ids = folder.ids()
    assert folder.ids() == ids
    assert folder.trials()[0].recipe.erasing == 0.25
    with pytest.raises(ValueError, match="numerics: the folder has 1, requested 2"):
        folder.create(study, toy.DATA)


def test_a_trial_launched_beyond_the_plan_belongs_to_the_study(folder: StudyFolder) -> None:
    extra = dataclasses.replace(folder.trials()[0], seed=99)
    folder.trial(extra.id).write_spec(extra)
    assert folder.trials()[-1] == extra
    assert folder.ids()[-1] == extra.id


@pytest.mark.parametrize("kind", ["study", "trial"])
def test_a_newer_layout_is_refused(folder: StudyFolder, trial: TrialFolder, kind: str) -> None:
    path = folder.path / "study.json" if kind == "study" else trial.path / "spec.json"
    edit(path, lambda values: values.update(schema=9))
    with pytest.raises(ValueError, match="layout 9, this archsearch reads"):
        _ = folder.open() if kind == "study" else trial.trial()


def test_a_damaged_study_is_reported_and_written_again_by_its_command(folder: StudyFolder) -> None:
    path = folder.path / "study.json"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        folder.open()
    folder.create(toy.study(), toy.DATA)
    assert folder.open().study() == toy.study()
    assert path.with_name("study.json.corrupt").exists()


def test_a_folder_without_a_study_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no study"):
        StudyFolder(tmp_path).open()


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
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


def test_a_study_of_free_variants_resumes_without_being_written_again(tmp_path: Path) -> None:
    free = FreeVariant((16, 32, 64, 128), (1, 2, 4, 8), (1, 1, 2, 1))
    study = dataclasses.replace(toy.study(), cells=(Cell({"i": 0}, "exact", free, None),))
    folder = StudyFolder(tmp_path / "toy").create(study, toy.DATA)
    assert folder.study() == study
    before = (folder.path / "study.json").stat().st_ino
    folder.create(study, toy.DATA)
    assert (folder.path / "study.json").stat().st_ino == before


def test_a_study_of_the_first_layout_is_read_and_resumed(tmp_path: Path) -> None:
    """Layout 1 called a cell's coordinates ``asked``, and had a search's space in its plan."""
    plan = Search("four", {"c1": (16, 32), "l1": (1,)}, "tpe", ("val_accuracy",), 0, 3, 0.05)
    study = dataclasses.replace(toy.study(), plan=plan, budget=Budget.parse("1M"))
    folder = StudyFolder(tmp_path / "toy").create(study, toy.DATA, ["archsearch"])
    new = read_json(folder.path / "study.json")
    old = {**new, "schema": 1, "plan": {**new["plan"], **new["plan"]["space"]}}
    del old["plan"]["space"]
    for cell in old["cells"]:
        cell["asked"] = cell.pop("requested")
    (folder.path / "study.json").write_text(json.dumps(old))
    assert folder.study() == study
    assert folder.create(study, toy.DATA, ["archsearch"]).study() == study
    assert json.loads((folder.path / "study.json").read_text()) == old  # not written again


def test_a_folder_without_a_spec_is_not_there(folder: StudyFolder, trial: TrialFolder) -> None:
    """A driver was killed after it made the folder, or wrote half of the spec."""
    beyond = dataclasses.replace(folder.trials()[0], seed=99)
    ids = folder.ids()
    gap = folder.trial(beyond.id).path
    gap.mkdir()
    for leftover in ("lock", ".tmp-0123456789abcdef"):
        (gap / leftover).write_text("half")
    assert list(folder.launched()) == [trial.id]
    assert (folder.ids(), folder.states()) == (ids, dict.fromkeys(ids, "pending"))
    assert [row["trial"] for row in study_status(folder.path).rows] == list(ids)
    assert [t.trial.id for t in results.load(folder.path).trials] == list(ids)


def test_a_trial_beyond_the_plan_with_a_damaged_spec_is_left_out_by_name(
    folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    ids = folder.ids()
    beyond = dataclasses.replace(folder.trials()[0], seed=99)
    folder.trial(beyond.id).write_spec(beyond)
    spec = folder.trial(beyond.id).path / "spec.json"
    spec.write_bytes(spec.read_bytes()[:50])
    assert folder.ids() == ids == tuple(trial.id for trial in folder.trials())
    assert [row["trial"] for row in study_status(folder.path).rows] == list(ids)
    assert [t.trial.id for t in results.load(folder.path).trials] == list(ids)
    assert f"{spec} is damaged" in caplog.text


@pytest.mark.parametrize(("number", "pauses"), [(errno.EACCES, False), (errno.EIO, True)])
def test_a_wrong_folder_is_refused_and_a_failing_disk_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, pauses: bool
) -> None:
    """In a folder that held the study before, no error means that the folder is wrong."""

    def fail(path: Path, **_: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    old = toy.create(tmp_path / "old").path
    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(OSError if pauses else ValueError, match=os.strerror(number)):
        toy.create(tmp_path / "new")
    with pytest.raises(OSError, match=os.strerror(number)):
        toy.create(old)
