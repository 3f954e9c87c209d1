"""The comparison of two versions of the code by one study."""

from pathlib import Path

import pytest

from archsearch.benchmarks import grid_versions
from archsearch.benchmarks.grid_versions import checkout, compare, parse
from archsearch.storage.record_values import without_times
from archsearch.study import Record
from tests import toy


def test_records_are_compared_without_times() -> None:
    record = Record("0" * 16, "complete", {"val_accuracy": 9.5, "images_per_second": 3.0})
    times = {"images_per_second": 4.0, "steps_seconds": 2.0}
    other = Record("0" * 16, "complete", {"val_accuracy": 9.5, **times}, seconds=7)
    assert without_times(record.to_dict()) == without_times(other.to_dict())
    better = Record("0" * 16, "complete", {"val_accuracy": 9.6, "images_per_second": 3.0})
    assert without_times(record.to_dict()) != without_times(better.to_dict())
    curve = Record("0" * 16, "complete", {}, curve=({"epoch": 1, "seconds": 2.0},))
    assert without_times(curve.to_dict())["curve"] == [{"epoch": 1}]


@pytest.mark.parametrize(("accuracies", "num_different"), [((50.0, 50.0), 0), ((50.0, 51.0), 2)])
def test_versions_take_turns_and_the_ratio_is_that_of_medians(
    accuracies: tuple[float, float],
    num_different: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    seconds = {old: iter([99.0, 1.0, 4.0, 2.0]), new: iter([99.0, 1.0, 0.5, 9.0])}
    order = []

    def run(code: Path, command: object, out: Path) -> tuple[float, float]:
        del command
        order.append(code.name)
        folder = toy.create(out, cells=2)
        for trial in folder.trials():
            folder.trial(trial.id).write_spec(trial)
            metrics = {"val_accuracy": accuracies[code == new]}
            toy.finish(folder.trial(trial.id), metrics=metrics)
        taken = next(seconds[code])
        return taken, 10 + taken

    monkeypatch.setattr(grid_versions, "seconds_of", run)
    result = compare(old, new, ["grid"], rounds=3)
    assert order == ["old", "new"] * 4
    assert result["seconds"] == {"old": [1.0, 4.0, 2.0], "new": [1.0, 0.5, 9.0]}
    assert (result["ratio"], result["cpu_ratio"]) == (0.5, 11 / 12)
    assert (result["records"], len(result["different"])) == (2, num_different)


def test_the_command_stands_after_two_dashes() -> None:
    options = parse(["a", "b", "--rounds", "1", "--", "grid", "--budget", "1M", "--out", "x"])
    assert (options.old, options.new, options.rounds, options.out) == ("a", "b", 1, None)
    assert options.command == ["grid", "--budget", "1M", "--out", "x"]
    assert parse(["a", "b"]).command == ["grid", "--budget", "30M"]


def test_an_unknown_version_is_an_error() -> None:
    with pytest.raises(ValueError, match="no folder and no commit is called no-such-version"):
        checkout("no-such-version").__enter__()
