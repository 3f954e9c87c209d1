"""A family in a user's file: loaded or refused, stored with its source, found by its copy."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archsearch.core.cell import Cell
from archsearch.core.family import Family, variant_to_dict
from archsearch.core.plans import Search
from archsearch.families import family_named, family_of, template_to_dict, variant_from_dict
from archsearch.results import load
from archsearch.storage.publish import publish, restore
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record, Study
from tests import toy
from tests.running import toy_runs

NET = """\
from dataclasses import dataclass
from archsearch import Family

@dataclass(frozen=True)
class Net(Family):
    width: int
    depth: int
    solved = "depth"

    def build(self, num_classes):
        from torch import nn
        layers = [nn.Conv2d(self.width, self.width, 3, padding=1) for _ in range(self.depth)]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.width, num_classes)]
        return nn.Sequential(nn.Conv2d(3, self.width, 4, stride=4), *layers, *head)
"""


def write(folder: Path, text: str = NET, name: str = "my_net.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def net(folder: Path, text: str = NET) -> Any:
    return family_named(f"{write(folder, text)}:Net")


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the executed files, as another process does not know them."""
    for name in [name for name in sys.modules if name.startswith("archsearch_file_")]:
        monkeypatch.delitem(sys.modules, name)


def study(family: Any, widths: tuple[int, ...] = (8, 16), **changes: Any) -> Study:
    cells = tuple(Cell({"width": w}, "exact", family(w, 2), None) for w in widths)
    return replace(toy.study(), cells=cells, axes=("width",), **changes)


def create(path: Path, family: Any, extend: bool = False, **options: Any) -> StudyFolder:
    return StudyFolder(path).create(study(family, **options), toy.DATA, ["grid"], extend=extend)


def test_a_variant_is_stored_with_the_hash_of_its_file(tmp_path: Path) -> None:
    family = net(tmp_path)
    stored = variant_to_dict(family(8, 2))
    assert stored["family"] == "my_net.py:Net"
    assert len(stored["source"]) == 64
    assert {name: stored[name] for name in ("width", "depth")} == {"width": 8, "depth": 2}
    assert variant_from_dict(json.loads(json.dumps(stored))) == family(8, 2)
    assert family.parse("8-2") == family(8, 2)


def test_the_identity_depends_on_the_content_and_not_on_the_folder(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    ids = [
        study(net(folder, text)).trials(toy.DATA)[0].id
        for folder, text in ((tmp_path, NET), (tmp_path / "b", NET), (tmp_path, NET + "\n# new"))
    ]
    assert ids[0] == ids[1] != ids[2]
    assert net(tmp_path) is net(tmp_path / "b")  # executed once per content


WRONG = {
    "syntax": (NET + "\nclass :", r"my_net.py, line 16: invalid syntax"),
    "raises": (NET + "\n1 / 0", r"my_net.py, line 16: ZeroDivisionError: division by zero$"),
    "import": (NET + "\nimport no_such", r"line 16: .*no_such.*: one file is all of a family"),
    "missing": (NET.replace("Net(", "Other("), r"has no Family called Net; its own are Other"),
    "no family": (NET.replace("(Family)", ""), r"line 5: Net is no Family; it has none"),
    "not frozen": (NET.replace("(frozen=True)", ""), r"line 5: Net must be a frozen dataclass"),
    "no build": (NET.replace("build", "make"), r"line 5: Net needs a method build"),
    "solved": (NET.replace('"depth"', '"deep"'), r"line 8: solved is 'deep', which is no number"),
    "unsolved": (
        NET.replace("solved =", "other ="),
        r"line 5: Net must say which number",
    ),
    "type": (NET.replace("width: int", "width: float"), r"line 6: width is of type float.*int$"),
    "typed": (NET.replace("solved =", "solved: str ="), r"line 8: .*write solved = ... without"),
    "reserved": (NET.replace("width", "source"), r"line 6: a field cannot be called source"),
    "several": (
        NET.replace("depth: int", "depth: str").replace('"depth"', '"deep"'),
        r"(?s)Net is no family:\n  - .*line 7: depth is of type str.*\n  - .*line 8: solved is",
    ),
    "guard": (
        NET + "\nimport archsearch\narchsearch.grid(Net, budget='1M')",
        r"line 17: ValueError: Net is used while its own file is read.*__main__",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_one_message_with_its_line(tmp_path: Path, name: str) -> None:
    text, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        net(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no_such.py:Net", "cannot read no_such.py: No such file"),
        ("Net", "a family is internimage, convnext, vit, FILE.py:Class or package.module:Class"),
        ("no_such.module:Net", "cannot load the family 'no_such.module:Net'"),
        ("archsearch.core.family:Family", "Family must be a frozen dataclass"),
    ],
)
def test_a_wrong_name_is_one_message(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family_named(text)


def test_a_class_of_the_running_script_is_that_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, own = write(tmp_path), type("Net", (Family,), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(path), raising=False)
    assert family_of(own) is net(tmp_path)
    monkeypatch.delattr(sys.modules["__main__"], "__file__")
    with pytest.raises(ValueError, match=r'Net has no file.*give "my_net.py:Net"'):
        family_of(own)


def test_a_variant_is_pickled_with_its_source(tmp_path: Path) -> None:
    content = pickle.dumps(net(tmp_path)(8, 2))
    assert pickle.loads(content) == net(tmp_path)(8, 2)
    (tmp_path / "variant").write_bytes(content)
    code = f"import pickle; print(pickle.load(open({str(tmp_path / 'variant')!r}, 'rb')).name)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "8-2\n"


def test_a_moved_run_finds_its_copy_without_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create(tmp_path / "run", net(tmp_path))
    (copy,) = (folder.path / "families").iterdir()
    assert copy.read_text() == NET
    toy_runs.run(folder, "train")
    assert publish(folder.path, tmp_path / "copy") == 2
    assert restore(tmp_path / "copy", tmp_path / "restored") == 2
    folder.path.rename(tmp_path / "moved")
    (tmp_path / "my_net.py").unlink()
    for name in ("moved", "copy", "restored"):
        forget(monkeypatch)
        results = load(tmp_path / name)
        assert [c.label for c in results.cells] == ["(8, 2)", "(16, 2)"]
        assert {t.state for t in results.trials} == {"complete"}


@pytest.mark.parametrize("damage", ["missing", "edited", "link"])
def test_a_copy_that_is_not_the_source_is_refused_and_the_study_kept(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = net(tmp_path)
    folder = create(tmp_path / "run", family)
    (copy,) = (folder.path / "families").iterdir()
    copy.rename(tmp_path / "aside")
    if damage == "edited":
        copy.write_text("raise SystemExit")
    if damage == "link":
        copy.symlink_to(tmp_path / "aside")
    forget(monkeypatch)
    messages = {"missing": "is missing", "edited": "was edited", "link": "is a link"}
    with pytest.raises(ValueError, match=f"{copy.name} .*{messages[damage]}"):
        folder.study()
    create(tmp_path / "run", net(tmp_path))  # the command has the source, and writes it again
    assert copy.read_text() == NET
    assert not copy.is_symlink()
    assert not list(folder.path.glob("*.corrupt"))


def test_a_changed_source_is_said_and_mixes_nothing(tmp_path: Path) -> None:
    folder = create(tmp_path / "run", net(tmp_path))
    toy_runs.run(folder, "train")
    changed = net(tmp_path, NET + "\n# changed")
    with pytest.raises(ValueError, match=r"(?s)the source of my_net.py:Net changed.*--extend") as e:
        create(tmp_path / "run", changed)
    assert str(e.value).count("\n") == 2
    assert len(list((folder.path / "families").iterdir())) == 1
    create(tmp_path / "run", changed, extend=True, widths=(8, 24))
    toy_runs.run(folder, "train")
    results = load(folder.path)
    assert [c.label for c in results.cells] == ["(8, 2)", "(24, 2)"]
    assert {type(t.trial.variant) for t in results.trials} == {changed}
    assert {type(t.trial.variant) for t in results.others} == {net(tmp_path)}
    assert len(results.others) == 2


def test_a_search_keeps_its_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    like = template_to_dict(net(tmp_path).template())
    plan = Search("four", {"width": (8, 16)}, "tpe", ("val_accuracy",), 0, 4, 0.05, like)
    own = replace(study(net(tmp_path)), cells=(), plan=plan)
    folder = StudyFolder(tmp_path / "run").create(own, toy.DATA)
    forget(monkeypatch)
    assert folder.study() == own
    assert [family.__name__ for family in folder.study().families] == ["Net"]


@pytest.mark.parametrize("runner", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_workers_read_the_variant_from_the_run(tmp_path: Path, runner: str) -> None:
    folder = create(tmp_path / "run", net(tmp_path))
    (tmp_path / "my_net.py").unlink()
    toy_runs.run(folder, "read_variant", runner=runner, workers=2)
    records = folder.records(folder.ids()).values()
    assert sorted(record.notes for record in records) == [("16-2",), ("8-2",)]


@pytest.mark.parametrize("work", ["die_once"])
def test_a_killed_training_resumes(tmp_path: Path, work: str) -> None:
    folder = create(tmp_path / "run", net(tmp_path))
    toy_runs.run(folder, work, runner="local", workers=2)
    assert toy.results(folder) == toy.expected_results(folder)


def test_the_record_of_a_stored_family_is_one(tmp_path: Path) -> None:
    folder = create(tmp_path / "run", net(tmp_path))
    trial = folder.trials()[0]
    folder.trial(trial.id).write_spec(trial)
    folder.trial(trial.id).write_record(Record(trial.id, "complete", {"val_accuracy": 90.0}))
    assert folder.trial(trial.id).trial() == trial
    assert folder.states()[trial.id] == "complete"
