"""The Python calls: `import archsearch as a`, then a.grid, a.count, a.load and a.train."""

import inspect
from pathlib import Path
from typing import Any

import pytest

import archsearch as a
from archsearch.api.run import Run

GRID: dict[str, Any] = {
    "budget": "1M", "c1": [8, 16], "group_channels": [8], "l1": [1],
    "epochs": 1, "set": {"data_fraction": 0.2}, "workers": 1, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Train a grid of two cells on a part of the digits."""
    trained: Run = a.grid(**GRID, out=tmp_path_factory.mktemp("runs") / "grid")
    return trained


def test_the_frame_has_a_row_per_cell(run: Run) -> None:
    assert list(run.df["c1"]) == [8, 16]
    assert list(run.df["state"]) == ["complete", "complete"]
    assert run.df["val_accuracy_mean"].between(0, 100).all()
    assert run.num_failed == 0


def test_the_best_network_has_the_highest_mean_and_a_model(run: Run) -> None:
    value = run.best.value
    assert value is not None
    assert value.mean == pytest.approx(run.df["val_accuracy_mean"].max(), abs=1e-6)
    model = run.best.model()
    assert not model.training
    untrained = run.best.variant.build(10)
    assert model.state_dict().keys() == untrained.state_dict().keys()
    assert model.class_names == tuple("0123456789")
    assert model.preprocessing.image_size == run.results.study.recipe.image_size


def test_a_network_of_a_run_is_evaluated_on_the_data_of_the_run(run: Run) -> None:
    row = a.evaluate(f"{run.folder}:best")
    assert row["data"] == "digits"
    assert run.best.value is not None
    assert row["val_accuracy"] == pytest.approx(run.best.value.mean)


def test_a_network_is_found_by_its_numbers(run: Run) -> None:
    name = run.best.variant.name
    assert run.network(name).variant == run.best.variant
    with pytest.raises(ValueError, match="no cell or trial '64-16-4-18'"):
        run.network("64-16-4-18")


def test_the_answer_names_the_best_network(run: Run) -> None:
    assert run.best.cell.label in run.answer
    assert run.answer in repr(run)


def test_the_heatmap_is_a_figure(run: Run) -> None:
    from matplotlib.figure import Figure

    assert isinstance(run.heatmap(), Figure)
    with pytest.raises(ValueError, match="unknown metric 'beauty'"):
        run.heatmap("beauty")


def test_a_notebook_shows_the_answer_and_the_heatmap(run: Run) -> None:
    html = run._repr_html_()
    assert "<svg" in html
    assert str(run.folder) in html


def test_repeating_the_call_trains_nothing(run: Run) -> None:
    def records() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in run.folder.rglob("record.json")}

    before = records()
    assert len(before) == 2
    again = a.grid(**GRID, out=run.folder)
    assert records() == before
    assert again.df.equals(run.df)


def test_load_returns_an_existing_run(run: Run, tmp_path: Path) -> None:
    loaded = a.load(run.folder)
    assert isinstance(loaded, a.Run)
    assert loaded.df.equals(run.df)
    with pytest.raises(ValueError, match="holds no study"):
        a.load(tmp_path)


@pytest.mark.parametrize("call", [a.grid, a.scale, a.search])
def test_an_unknown_keyword_is_named(call: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no such option: budgets"):
        call(budgets="1M", out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_wrong_options_are_reported_together_before_anything_is_created(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 errors:") as error:
        a.grid(budget="banana", workers=0, out=tmp_path / "run")
    assert "got 'banana'" in str(error.value)
    assert "workers must be at least 1, at most 1,000,000,000, got 0" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_signature_lists_the_options() -> None:
    parameters = inspect.signature(a.grid).parameters
    assert {"budget", "c1", "group_channels", "l1", "epochs", "seeds", "workers", "out"} <= set(
        parameters
    )
    assert parameters["budget"].default == "30M"
    kinds = {name: p.kind for name, p in parameters.items()}
    assert kinds.pop("family") is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds.values()) == {inspect.Parameter.KEYWORD_ONLY}
    assert "30-cell grid" in (a.grid.__doc__ or "")


def test_count_is_in_closed_form() -> None:
    assert a.count("T").params == 29_918_424
    assert a.count("T", image_size=(224, 448)).macs == pytest.approx(
        2 * a.count("T").macs, rel=1e-3
    )
    assert a.count("T", image_size="224x448") == a.count("T", image_size=(224, 448))
    assert a.count("T", image_size="224") == a.count("T")
    detector = a.count("H", head="dino", two_backbones=True, image_size="1280x800")
    assert (detector.params, detector.num_classes) == (2_178_558_124, 80)
    with pytest.raises(ValueError, match="wanted one of T, S, B"):
        a.count("Q")
    with pytest.raises(ValueError, match="image_size must be a side in pixels"):
        a.count("T", image_size="224x")


def test_train_returns_the_trained_network(tmp_path: Path) -> None:
    trained = a.train(
        "16-8-1-1", epochs=1, set={"data_fraction": 0.2}, device="cpu", out=tmp_path / "full"
    )
    assert trained.record.status == "complete"
    assert trained.weights.exists()
    model = trained.model()
    assert not model.training
    assert model.config.channels == (16, 32, 64, 128)
    with pytest.raises(TypeError, match="no such option: epoch"):
        a.train("16-8-1-1", epoch=1)


def test_the_package_has_a_version_and_no_other_names() -> None:
    assert isinstance(a.__version__, str)
    assert set(a.__all__) < set(dir(a))
    with pytest.raises(AttributeError, match="no attribute 'girds'"):
        _ = a.girds
