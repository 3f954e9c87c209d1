"""The test split is never used to choose: every way to choose by it is refused, none to show it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import archsearch as a
from archsearch.core.metrics import GENERAL
from archsearch.core.plans import Halve, MoreSeeds
from archsearch.core.recipes import QUICK
from archsearch.networks import find_cell, find_trial
from archsearch.reports.provenance import verify
from archsearch.reports.render import render_results
from archsearch.results import load
from archsearch.searching.search import search
from archsearch.study import Study
from archsearch.tasks.classification import CLASSIFICATION, Classification
from tests import toy
from tests.golden import DATA, golden_results, grid_study, write_run
from tests.searching.test_search import FOUR

REFUSED = "is measured on the test split, which is never used to choose"
OF_TEST = ("test_accuracy", "test_error", "test_loss")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(golden_results(2), tmp_path_factory.mktemp("runs") / "grid")


@pytest.fixture(scope="module")
def earlier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of an earlier version, which compared cells by the test split."""
    results = golden_results(2)
    study = replace(results.study, metric="test_accuracy")
    folder = tmp_path_factory.mktemp("runs") / "earlier"
    return write_run(replace(results, study=study, _compared={}), folder)


@dataclass(frozen=True)
class RankedByTest(Classification):
    """A user's task that would choose the best epoch by the test split."""

    ranking_metric: ClassVar[str] = "test_accuracy"
    stored_without_path: ClassVar[bool] = False


STUDIES: dict[str, Callable[[], Study]] = {
    "metric": lambda: grid_study(metric="test_accuracy"),
    "seeds auto": lambda: grid_study(metric="test_error", plan=MoreSeeds(5)),
    "prune": lambda: grid_study(metric="test_loss", plan=Halve("epochs", force=True)),
    "task": lambda: grid_study(task=RankedByTest(), metric="val_loss"),
}


def test_the_test_split_is_recognized_by_what_is_measured() -> None:
    known = CLASSIFICATION.all_metrics().values()
    assert tuple(m.name for m in known if m.is_of_test_split) == OF_TEST
    for name in ("val_accuracy", "val_loss", *GENERAL):
        assert CLASSIFICATION.choosing_metric(name).name == name


@pytest.mark.parametrize("metric", OF_TEST)
def test_commands_refuse_to_choose_by_it(
    run_cli: Any, run: Path, metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (
        ["search", "--objectives", metric],
        ["search", "--objectives", f"macs,{metric}", "--plan"],
        ["report", str(run), "--metric", metric, "--out", "report"],
        ["export", str(run), "--optuna", "sqlite:///x.db", "--objectives", f"macs,{metric}"],
    ):
        code, out, err = run_cli(*command)
        assert (code, out) == (2, "")
        assert f"{metric} {REFUSED}" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_of_the_users_own_is_refused_before_anything_is_created(
    name: str, tmp_path: Path
) -> None:
    study = replace(STUDIES[name](), data="digits")
    with pytest.raises(ValueError, match=REFUSED):
        a.run(study, out=tmp_path / "run", device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_plan_from_a_file_is_refused_too(run_cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from tests.golden import grid_study\nstudy = grid_study(metric='test_accuracy')\n"
    )
    code, _, err = run_cli("run", str(file), "--plan")
    assert code == 2
    assert REFUSED in err


def test_python_calls_refuse_to_choose_by_it(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=REFUSED):
        a.search(objectives="test_accuracy", out=tmp_path / "run")
    with pytest.raises(ValueError, match=REFUSED):
        a.load(run).heatmap("test_error")
    with pytest.raises(ValueError, match=REFUSED):
        a.load(run).report(tmp_path / "report", "test_error")
    with pytest.raises(ValueError, match=REFUSED):
        next(search(FOUR, QUICK, toy.DATA, objectives=("test_accuracy",)))
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_run_that_chose_by_it_is_shown_but_chooses_no_more(
    earlier_run: Path, tmp_path: Path
) -> None:
    results = load(earlier_run)
    label = results.compare().ranking.best
    assert label is not None
    with pytest.raises(ValueError, match=REFUSED):
        find_cell(results, "best")
    with pytest.raises(ValueError, match=REFUSED):
        find_trial(results, label)
    assert find_cell(results, label).label == label
    assert find_trial(results, results.trials[0].trial.id) == results.trials[0]
    with pytest.raises(ValueError, match=REFUSED):
        a.run(results.study, out=tmp_path / "again", device="cpu")


def test_a_report_that_an_earlier_version_drew_by_it_still_verifies(
    run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    render_results([load(run)], [run], out, "test_accuracy", cards=())
    assert verify(run, out, cards=()).differences == ()


def test_the_result_on_it_is_shown(run: Path) -> None:
    from archsearch.reports.context import Context
    from archsearch.reports.summary import summarize

    results = load(run)
    assert results.data == DATA
    assert any(name.startswith("Test split") for name, _ in summarize(Context.of(results)).facts)
    assert "test_accuracy_mean" in results.rows()[0]
