"""What a reader sees while a study runs."""

import io
from typing import Any

import pytest

from archsearch.api.live import Lines, clock, headline, screen
from archsearch.running.progress import Progress, Snapshot


def snapshot(**changes: Any) -> Snapshot:
    running = Progress("b" * 16, "running", 1, 2, 90.0, 55.0, "worker 1")
    failed = Progress("c" * 16, "failed", 0, 2, note="out of memory")
    done = Progress("a" * 16, "complete", 2, 2, 97.5)
    fields: dict[str, Any] = {
        "name": "grid", "metric": "val_accuracy", "total": 4,
        "counts": {"complete": 1, "running": 1, "failed": 1, "pending": 1},
        "trials": {t.trial_id: t for t in (done, running, failed)},
        "best": done, "images_per_second": 55.0, "seconds": 192.0, "eta_seconds": 400.0,
    }  # fmt: skip
    return Snapshot(**{**fields, **changes})


LABELS = {"a" * 16: "64-16-4-18", "b" * 16: "48-16-1-61", "c" * 16: "80-16-4-4"}


def test_headline_says_progress_speed_time_left_and_best() -> None:
    assert headline(snapshot(), LABELS) == (
        "2/4 finished · 1 running · 1 failed · 55 images/s · 3m 12s, about 6m 40s left · "
        "best so far 64-16-4-18 97.50"
    )


def test_an_open_ended_plan_says_what_is_sure() -> None:
    told = headline(snapshot(open_ended=True), LABELS)
    assert told.startswith("2/4+ finished")
    assert "at least 6m 40s left" in told
    assert headline(snapshot(total=None), LABELS).startswith("2/? finished")


def test_the_table_shows_running_and_failed_trials() -> None:
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(screen(snapshot(), LABELS, ["a" * 16, "c" * 16]))
    text = console.export_text()
    for word in ("48-16-1-61", "running", "worker 1", "failed: out of memory", "97.50"):
        assert word in text


def test_lines_tell_each_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(LABELS)
    lines.show(snapshot())
    lines.show(snapshot())
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3
    assert "failed out of memory" in told[2]


@pytest.mark.parametrize(("seconds", "text"), [(8, "8s"), (192, "3m 12s"), (7500, "2h 05m")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
