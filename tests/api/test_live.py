"""The progress that a reader sees while a study runs."""

import io
import sys
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from archsearch.api.live import ProgressLines, clock, display, headline, screen
from archsearch.running.progress import Snapshot, TrialProgress
from archsearch.stats.remaining import Remaining


def snapshot(**changes: Any) -> Snapshot:
    running = TrialProgress("b" * 16, "running", 1, 2, 90.0, 55.0, "worker 1")
    failed = TrialProgress("c" * 16, "failed", 0, 2, note="out of memory")
    done = TrialProgress("a" * 16, "complete", 2, 2, 97.5)
    fields: dict[str, Any] = {
        "name": "grid", "metric": "val_accuracy", "total": 4,
        "counts": {"complete": 1, "running": 1, "failed": 1, "pending": 1},
        "trials": {t.trial_id: t for t in (done, running, failed)},
        "best": done, "images_per_second": 55.0, "seconds": 192.0,
        "left": Remaining(400.0),
    }  # fmt: skip
    return Snapshot(**{**fields, **changes})


LABELS = {"a" * 16: "64-16-4-18", "b" * 16: "48-16-1-61", "c" * 16: "80-16-4-4"}


def test_the_headline_has_progress_speed_time_left_and_best() -> None:
    assert headline(snapshot(), LABELS) == (
        "2/4 finished · 1 running · 1 failed · 55 images/s · 3m 12s, about 6m 40s left · "
        "best so far 64-16-4-18 97.50"
    )


def test_the_time_left_has_its_interval() -> None:
    text = headline(snapshot(left=Remaining(400.0, 350.0, 450.0)), LABELS)
    assert "3m 12s, about 6m 40s left (5m 50s to 7m 30s) · " in text
    for unknown in (None, Remaining(0.0)):
        assert "3m 12s · best" in headline(snapshot(left=unknown), LABELS)


def test_an_open_ended_plan_gives_lower_bounds() -> None:
    text = headline(snapshot(open_ended=True), LABELS)
    assert text.startswith("2/4+ finished")
    assert "at least 6m 40s left" in text
    assert headline(snapshot(total=None), LABELS).startswith("2/? finished")


def test_the_table_shows_running_and_failed_trials() -> None:
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(screen(snapshot(), LABELS, ["a" * 16, "c" * 16]))
    text = console.export_text()
    for word in ("48-16-1-61", "running", "worker 1", "failed: out of memory", "97.50"):
        assert word in text


def test_a_notebook_shows_one_output_that_is_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = list[str]()
    output = SimpleNamespace(update=lambda html: outputs.append(html))
    fake = ModuleType("IPython.display")
    fake.HTML = str  # type: ignore[attr-defined]
    fake.display = MagicMock(return_value=output)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    with display(LABELS) as show:
        show(snapshot())
        show(snapshot())
    assert len(outputs) == 2
    assert outputs[0].startswith("<pre>")
    assert "failed: out of memory" in outputs[1]


def test_each_change_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressLines(LABELS)
    progress.show(snapshot())
    progress.show(snapshot())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "failed out of memory" in lines[2]


@pytest.mark.parametrize(("seconds", "text"), [(8, "8s"), (192, "3m 12s"), (7500, "2h 05m")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
