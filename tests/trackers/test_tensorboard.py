"""Event files, read back by TensorBoard's own reader."""

from pathlib import Path
from typing import Any

import pytest

from archsearch.trackers import export_to
from tests.trackers import runs

pytest.importorskip("tensorboard")


def reader(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def hparams(events: Any, part: str) -> Any:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    tags = events.PluginTagToContent("hparams")
    return getattr(HParamsPluginData.FromString(tags[f"_hparams_/{part}"]), part)


def scalars(events: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.fixture
def exported(tmp_path: Path) -> dict[str, Any]:
    """Status -> what the reader sees of the training with it."""
    run, target = runs.make(tmp_path / "g").path, tmp_path / "out"
    assert export_to("tensorboard", run, str(target)) == (3, 1)
    folders = sorted(target.glob("*/*/*"))
    assert {(f.parts[-3], f.parts[-2], f.name[:7]) for f in folders} == {
        ("g", "16-16-1-4", "seed-0-"), ("g", "16-16-2-5", "seed-0-"), ("g", "16-16-1-4", "seed-1-"),
    }  # fmt: skip
    events = [reader(folder) for folder in folders]
    return {hparams(e, "session_start_info").hparams["status"].string_value: e for e in events}


def test_a_curve_is_by_epoch_with_its_times(exported: dict[str, Any]) -> None:
    events = exported["complete"]
    assert scalars(events, "val_accuracy") == [(1, 60.0), (2, 80.0)]
    assert scalars(events, "val_loss") == [(2, 0.5)]
    assert scalars(events, "final/val_accuracy") == [(2, 80.0)]
    times = [event.wall_time for event in events.Scalars("val_accuracy")]
    assert times[1] - times[0] == pytest.approx(3.0, abs=1e-3)


def test_each_training_is_a_row_of_the_tab_hparams(
    exported: dict[str, Any],
) -> None:
    starts = {k: hparams(e, "session_start_info") for k, e in exported.items()}
    assert starts["complete"].hparams["recipe.lr"].number_value == 0.1
    assert starts["complete"].hparams["variant.c1"].number_value == 16
    assert len({start.group_name for start in starts.values()}) == 3
    cells = {k: start.hparams["cell"].string_value for k, start in starts.items()}
    assert cells["complete"] == cells["failed"] == "(16, 16, 1, 4)"
    assert starts["failed"].hparams["error"].string_value == "stopped"
    ends = {k: hparams(e, "session_end_info").status for k, e in exported.items()}
    assert ends == {"complete": 1, "diverged": 2, "failed": 2}


def test_repeating_adds_what_is_new(tmp_path: Path) -> None:
    folder, target = runs.make(tmp_path / "g"), str(tmp_path / "out")
    export_to("tensorboard", folder.path, target)
    assert export_to("tensorboard", folder.path, target) == (0, 1)
    runs.retry_the_failed(folder)
    assert export_to("tensorboard", folder.path, target) == (2, 0)
    assert len(list(Path(target).glob("g/*/*"))) == 5


def test_the_command_says_what_it_wrote(run_cli: Any, tmp_path: Path) -> None:
    run = runs.make(tmp_path / "g").path
    code, _, err = run_cli("export", str(run), "--tensorboard", str(tmp_path / "out"))
    assert code == 0
    assert "Wrote 3 new trainings" in err
    assert "1 training has no result yet" in err
