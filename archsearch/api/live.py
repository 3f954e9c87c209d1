"""What a reader sees while a study runs: a live table on a terminal or in a notebook, or lines."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from archsearch.running.progress import Progress, Snapshot

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

ROWS_FINISHED = 10
"""Finished trials that stay in sight, newest first."""

Show = Callable[[Snapshot], None]


@contextmanager
def display(labels: Mapping[str, str]) -> Iterator[Show]:
    """Something to call with every snapshot. ``labels`` names the trials by id."""
    notebook = "ipykernel" in sys.modules
    if not (notebook or sys.stderr.isatty()):
        yield Lines(labels).show
        return
    from rich.console import Console
    from rich.live import Live

    finished: list[str] = []
    with Live(console=Console(stderr=not notebook), refresh_per_second=4) as live:

        def show(snapshot: Snapshot) -> None:
            new = (i for i, t in snapshot.trials.items() if ended(t) and i not in seen)
            seen.update(order := list(new))
            finished.extend(order)
            live.update(screen(snapshot, labels, finished))

        seen: set[str] = set()
        yield show


def ended(trial: Progress) -> bool:
    return trial.state in ("complete", "diverged", "failed")


def screen(snapshot: Snapshot, labels: Mapping[str, str], finished: list[str]) -> "RenderableType":
    """Progress on top, then the running trials, then those that finished last."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    parts: list[RenderableType] = [Text(headline(snapshot, labels), style="bold")]
    if snapshot.total:
        bar = ProgressBar(total=snapshot.total, completed=snapshot.finished, width=60)
        parts.append(Padding(bar, (0, 0, 1, 0)))
    parts.append(_table(snapshot, labels, finished))
    return Group(*parts)


def _table(snapshot: Snapshot, labels: Mapping[str, str], finished: list[str]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("C1-C'-L1-L3", "state", "epoch", snapshot.metric, "images/s", "on"):
        table.add_column(name, justify="right" if name in NUMBERS | {snapshot.metric} else "left")
    running = [t for t in snapshot.trials.values() if t.state == "running"]
    latest = [snapshot.trials[i] for i in reversed(finished[-ROWS_FINISHED:])]
    for trial in running + latest:
        table.add_row(*_row(trial, labels), style="" if trial.state == "running" else "dim")
    return table


NUMBERS = {"epoch", "images/s"}


def _row(trial: Progress, labels: Mapping[str, str]) -> tuple[str, ...]:
    state = trial.state if not trial.note else f"{trial.state}: {trial.note[:60]}"
    speed = "" if trial.images_per_second is None else f"{trial.images_per_second:.0f}"
    return (
        labels[trial.trial_id],
        state,
        f"{trial.epoch}/{trial.epochs}",
        value_text(trial.metric),
        speed,
        trial.where,
    )


def headline(snapshot: Snapshot, labels: Mapping[str, str]) -> str:
    """``12/25 finished · 2 running · 1 failed · 340 images/s · 3m 12s, about 6m 40s left``."""
    parts = [f"{snapshot.finished}/{total_text(snapshot)} finished"]
    parts += [
        f"{snapshot.counts[state]} {state}"
        for state in ("running", "diverged", "failed", "interrupted")
        if snapshot.counts.get(state)
    ]
    if snapshot.images_per_second:
        parts.append(f"{snapshot.images_per_second:.0f} images/s")
    parts.append(clock(snapshot.seconds) + left_text(snapshot))
    if best := snapshot.best:
        name = labels[best.trial_id]
        parts.append(f"best so far {name} {value_text(best.metric)}")
    return " · ".join(parts)


class Lines:
    """A line per epoch and per record on stderr, for logs."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._told: dict[str, tuple[str, int]] = {}

    def show(self, snapshot: Snapshot) -> None:
        for trial_id, trial in snapshot.trials.items():
            now = (trial.state, trial.epoch)
            if now != self._told.get(trial_id) and (ended(trial) or trial.epoch):
                self._told[trial_id] = now
                print(self._line(snapshot, trial), file=sys.stderr, flush=True)

    def _line(self, snapshot: Snapshot, trial: Progress) -> str:
        name = self._labels[trial.trial_id]
        what = f"{snapshot.metric} {value_text(trial.metric)}"
        state = f"{trial.state} {trial.note}".strip()
        return (
            f"[{snapshot.finished}/{total_text(snapshot)}] {name}: {state}, epoch "
            f"{trial.epoch}/{trial.epochs}, {what} "
            f"({clock(snapshot.seconds)}{left_text(snapshot)})"
        )


def total_text(snapshot: Snapshot) -> str:
    """``22``, ``40+`` where a plan may ask for more, ``?`` where nothing is known yet."""
    if snapshot.total is None:
        return "?"
    return f"{snapshot.total}{'+' if snapshot.open_ended else ''}"


def left_text(snapshot: Snapshot) -> str:
    """``, about 6m 40s left``; empty before the first epoch."""
    if not snapshot.eta_seconds:
        return ""
    word = "at least" if snapshot.open_ended else "about"
    return f", {word} {clock(snapshot.eta_seconds)} left"


def value_text(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def clock(seconds: float) -> str:
    """``8s``, ``3m 12s``, ``2h 05m``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
