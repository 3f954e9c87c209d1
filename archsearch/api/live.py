"""Progress of a running study: a live table on a terminal or in a notebook, lines elsewhere."""

import io
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from archsearch.core.visible import visible
from archsearch.running.progress import Snapshot, TrialProgress
from archsearch.stats.remaining import Remaining

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    Update = Callable[[RenderableType], None]

ROWS_FINISHED = 10
"""How many finished trials the table shows, newest first."""

Show = Callable[[Snapshot], None]


@contextmanager
def display(labels: Mapping[str, str]) -> Iterator[Show]:
    """Yield a function to call with every snapshot; ``labels`` names the trials by id."""
    notebook = "ipykernel" in sys.modules
    if not (notebook or (sys.stderr is not None and sys.stderr.isatty())):
        yield ProgressLines(labels).show
        return
    finished, seen = list[str](), set[str]()
    with _notebook_view() if notebook else _terminal_view() as update:

        def show(snapshot: Snapshot) -> None:
            new = [i for i, t in snapshot.trials.items() if ended(t) and i not in seen]
            seen.update(new)
            finished.extend(new)
            update(screen(snapshot, labels, finished))

        yield show


@contextmanager
def _terminal_view() -> "Iterator[Update]":
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:
        yield live.update


@contextmanager
def _notebook_view() -> "Iterator[Update]":
    """Yield an update of one output of the cell; rich's own `Live` needs ipywidgets for that."""
    from IPython.display import HTML
    from IPython.display import display as show_in_cell

    output = show_in_cell(HTML(""), display_id=True)
    yield lambda view: output.update(HTML(html_of(view)))


def html_of(view: "RenderableType") -> str:
    """Return a view as HTML, in the colors of the notebook's page."""
    from rich.console import Console

    file = io.StringIO()  # nothing is printed, also where rich knows the notebook
    console = Console(width=120, record=True, file=file, force_terminal=True, force_jupyter=False)
    console.print(view)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def say(text: str) -> None:
    """Print a message on stderr, because stdout is for results; escapes in it are made visible.

    A closed stderr stops no work.
    """
    if sys.stderr is not None:  # print would use stdout
        with suppress(OSError):
            print(visible(text), file=sys.stderr, flush=True)


def ended(trial: TrialProgress) -> bool:
    return trial.state in ("complete", "diverged", "failed")


def screen(snapshot: Snapshot, labels: Mapping[str, str], finished: list[str]) -> "RenderableType":
    """Return the view: progress, then the running trials, then the last finished ones."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    parts: list[RenderableType] = [Text(visible(headline(snapshot, labels)), style="bold")]
    if snapshot.total:
        bar = ProgressBar(total=snapshot.total, completed=snapshot.finished, width=60)
        parts.append(Padding(bar, (0, 0, 1, 0)))
    parts.append(_table(snapshot, labels, finished))
    return Group(*parts)


def _table(snapshot: Snapshot, labels: Mapping[str, str], finished: list[str]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("network", "state", "epoch", snapshot.metric, "images/s", "runs on"):
        table.add_column(
            name, justify="right" if name in RIGHT_ALIGNED | {snapshot.metric} else "left"
        )
    running = [t for t in snapshot.trials.values() if t.state == "running"]
    latest = [snapshot.trials[i] for i in reversed(finished[-ROWS_FINISHED:])]
    for trial in running + latest:
        table.add_row(*_row(trial, labels), style="" if trial.state == "running" else "dim")
    return table


RIGHT_ALIGNED = {"epoch", "images/s"}


def _row(trial: TrialProgress, labels: Mapping[str, str]) -> "tuple[Text, ...]":
    """Return the cells of a row: plain text, because a stored error may hold markup or escapes."""
    from rich.text import Text

    state = trial.state if not trial.note else f"{trial.state}: {trial.note[:60]}"
    speed = "" if trial.images_per_second is None else f"{trial.images_per_second:.0f}"
    cells = (
        labels[trial.trial_id],
        state,
        f"{trial.epoch}/{trial.epochs}",
        value_text(trial.metric),
        speed,
        trial.worker,
    )
    return tuple(Text(visible(cell)) for cell in cells)


def headline(snapshot: Snapshot, labels: Mapping[str, str]) -> str:
    """Return ``12/25 finished · 2 running · 340 images/s · 3m 12s, about 6m 40s left``."""
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


class ProgressLines:
    """Prints a line per epoch and per record on stderr, for logs."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._printed: dict[str, tuple[str, int]] = {}

    def show(self, snapshot: Snapshot) -> None:
        for trial_id, trial in snapshot.trials.items():
            now = (trial.state, trial.epoch)
            if now != self._printed.get(trial_id) and (ended(trial) or trial.epoch):
                self._printed[trial_id] = now
                say(self._line(snapshot, trial))

    def _line(self, snapshot: Snapshot, trial: TrialProgress) -> str:
        name = self._labels[trial.trial_id]
        state = f"{trial.state} {trial.note}".strip()
        return (
            f"[{snapshot.finished}/{total_text(snapshot)}] {name}: {state}, epoch "
            f"{trial.epoch}/{trial.epochs}, {snapshot.metric} {value_text(trial.metric)} "
            f"({clock(snapshot.seconds)}{left_text(snapshot)})"
        )


def total_text(snapshot: Snapshot) -> str:
    """Return ``22``; ``40+`` if a plan may add trials; ``?`` if the number is not known yet."""
    if snapshot.total is None:
        return "?"
    return f"{snapshot.total}{'+' if snapshot.open_ended else ''}"


def left_text(snapshot: Snapshot) -> str:
    """Return ``, about 6m 40s left (5m 50s to 7m 30s)``; an empty text while nothing is known."""
    if snapshot.left is None or not snapshot.left.seconds:
        return ""
    qualifier = "at least" if snapshot.open_ended else "about"
    return f", {qualifier} {remaining_text(snapshot.left)}"


def remaining_text(left: Remaining) -> str:
    """Return ``6m 40s left (5m 50s to 7m 30s)``; without an interval only the first half."""
    text = f"{clock(left.seconds)} left"
    if left.low is None or left.high is None:
        return text
    return f"{text} ({clock(left.low)} to {clock(left.high)})"


def value_text(value: float | None) -> str:
    """Return the value with two decimals, or a dash for None."""
    return "–" if value is None else f"{value:.2f}"


def clock(seconds: float) -> str:
    """Return ``8s``, ``3m 12s`` or ``2h 05m``."""
    total = round(seconds)
    if total < 60:
        return f"{total}s"
    if total < 3600:
        return f"{total // 60}m {total % 60:02d}s"
    return f"{total // 3600}h {total % 3600 // 60:02d}m"
