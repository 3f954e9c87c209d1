"""Runs of many trials: what is read, compared and drawn grows with the trials, and no faster."""

import cProfile
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from archsearch import optuna_export
from archsearch.benchmarks.large_runs import finished_run
from archsearch.reports import importances, learning, trade_off
from archsearch.reports.context import Context
from archsearch.reports.learning import LEARNING
from archsearch.reports.render import render_all
from archsearch.reports.style import inline_svg
from archsearch.reports.trade_off import TRADEOFF_PARAMS
from archsearch.results import TrialResult, load
from archsearch.stats import association
from archsearch.storage.publish import publish
from archsearch.storage.trial_folder import TrialFolder

NETWORKS, SEEDS = 12, 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("large") / "run", NETWORKS, SEEDS).path


_OPENED: list[str] | None = None


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _OPENED is not None and isinstance(arguments[0], str):
        _OPENED.append(arguments[0])


sys.addaudithook(_note_opened)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened from now on, in whatever way."""
    names: list[str] = []
    monkeypatch.setattr(sys.modules[__name__], "_OPENED", names)
    return names


def times_opened(opened: list[str], run: Path) -> Counter[str]:
    """Return how often the study and the records of a run were opened."""
    paths = (Path(name) for name in opened if name.startswith(f"{run}/"))
    names = (path.relative_to(run).as_posix() for path in paths)
    return Counter(n for n in names if n == "study.json" or n.endswith("/record.json"))


def test_loading_opens_every_record_and_the_study_once(run: Path, opened: list[str]) -> None:
    load(run)
    times = times_opened(opened, run)
    assert len(times) == NETWORKS * SEEDS + 1
    assert set(times.values()) == {1}


def test_a_report_opens_every_record_once(run: Path, opened: list[str], tmp_path: Path) -> None:
    render_all([run], tmp_path)
    times = times_opened(opened, run)
    assert len(times) == NETWORKS * SEEDS + 1
    assert set(times.values()) == {1}


def test_a_published_copy_is_made_without_parsing_records(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(TrialFolder, "record", lambda trial: pytest.fail(trial.id))
    assert publish(run, tmp_path / "copy") == NETWORKS * SEEDS


def calls(path: Path, out: Path) -> Counter[str]:
    """Return how often a report calls each function, and resumes each generator, of ours."""
    profile = cProfile.Profile()
    profile.runcall(render_all, [path], out)
    profile.create_stats()
    stats: dict[tuple[str, int, str], tuple[int, ...]] = profile.stats  # type: ignore[attr-defined]
    ours = {key: value[1] for key, value in stats.items() if "archsearch" in key[0]}
    return Counter(
        {f"{Path(file).name}:{line} {name}": n for (file, line, name), n in ours.items()}
    )


@pytest.mark.slow
def test_the_calls_of_a_report_grow_with_the_trials_not_with_their_pairs(tmp_path: Path) -> None:
    """With twice the networks, calls per pair are four times as many.

    A Pareto front, which every point is compared with, grows a little itself.
    """
    runs = {num: finished_run(tmp_path / f"run-{num}", num, SEEDS).path for num in (20, 40)}
    once, twice = (calls(path, tmp_path / f"out-{num}") for num, path in runs.items())
    assert {name: (once[name], n) for name, n in twice.items() if n > 3.5 * once[name] + 50} == {}


def test_loading_compares_no_training_with_another(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrialResult, "__eq__", lambda *_: pytest.fail("compared"))
    assert len(load(run).trials) == NETWORKS * SEEDS


@pytest.fixture
def context(run: Path) -> Context:
    return Context.of(load(run))


def test_many_networks_are_one_image_in_a_trade_off(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trade_off, "MAX_DRAWN_ALONE", NETWORKS - 1)
    content = TRADEOFF_PARAMS.content(context)
    assert content.figure is not None
    lines = content.figure.axes[0].get_lines()
    front, rest = content.figure, [line for line in lines if line.get_rasterized()]
    num_points = sum(len(line.get_xdata()) for line in lines if line.get_marker() in ("o", "D"))
    assert len(rest) == 1
    assert num_points == NETWORKS
    assert "Of these 12 networks only those of the front have a bar" in content.how_to_read
    assert "<image" in inline_svg(front, "a", "b")


def test_few_networks_are_drawn_one_by_one(context: Context) -> None:
    content = TRADEOFF_PARAMS.content(context)
    assert content.figure is not None
    lines = content.figure.axes[0].get_lines()
    assert not any(line.get_rasterized() for line in lines)
    assert sum(line.get_marker() in ("o", "D") for line in lines) == NETWORKS
    assert "Of these" not in content.how_to_read


def test_many_learning_curves_are_one_image_of_the_same_lines(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = LEARNING.content(context).figure
    assert figure is not None
    faint = figure.axes[0].get_lines()[: NETWORKS - learning.MAX_SERIES]
    limits = figure.axes[0].get_ylim()
    monkeypatch.setattr(learning, "MAX_DRAWN_ALONE", NETWORKS - 1)
    large = LEARNING.content(context).figure
    assert large is not None
    (image,) = (c for c in large.axes[0].collections if isinstance(c, LineCollection))
    assert image.get_rasterized()
    assert len(large.axes[0].get_lines()) == learning.MAX_SERIES
    for line, segment in zip(faint, image.get_segments(), strict=True):
        np.testing.assert_array_equal(np.transpose(line.get_data()), segment)
    assert large.axes[0].get_ylim() == pytest.approx(limits)


def test_importances_of_many_trainings_are_those_of_a_part_and_say_so(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    original = optuna_export.memory_study
    monkeypatch.setattr(
        optuna_export,
        "memory_study",
        lambda trials, by: sizes.append(len(trials)) or original(trials, by),
    )
    for module in (optuna_export, importances):
        monkeypatch.setattr(module, "MAX_IN_FOREST", 20)
    assert optuna_export.importances(context.results)
    assert sizes == [20]
    text = importances._how_to_read(context)
    assert "Computed from 20 of 24 trainings, picked at random." in text


def test_an_association_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    columns = {"x": rng.integers(0, 5, 40).tolist(), "y": rng.normal(size=40).tolist()}
    values = (rng.normal(size=40) + 0.3 * np.array(columns["x"])).tolist()
    complete = association.association_p_value(columns, values)
    monkeypatch.setattr(association, "CHUNK_VALUES", 333)
    assert association.association_p_value(columns, values) == complete
