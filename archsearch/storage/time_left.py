"""The time left of a study, from its files: the quote, and the times of its finished trials.

A driver knows more while it trains (`archsearch.running.forecast`); this is for readers.
"""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from archsearch.stats.remaining import Remaining, ratio, remaining
from archsearch.storage.quote import Quote, quote_or_warning
from archsearch.storage.study_folder import FINISHED, StudyFolder

Row = Mapping[str, Any]
"""A row of `archsearch.storage.status`: its trial, state, epoch, epochs and seconds."""


def time_left(folder: StudyFolder, rows: Iterable[Row]) -> Remaining | None:
    """The time until the report is drawn; None without a quote of the trials that are left.

    Trials that are not quoted, such as those of a plan that may add some, are not counted.
    """
    quote = quote_or_warning(folder.path)
    if quote is None:
        return None
    quoted = [row for row in rows if row["trial"] in quote.seconds]
    seconds = {row["trial"]: quote.seconds[row["trial"]] for row in quoted}
    pairs = [
        (seconds[row["trial"]], row["seconds"])
        for row in quoted
        if row["state"] == "complete" and row["seconds"] and seconds[row["trial"]] > 0
    ]
    unfinished = [row for row in quoted if row["state"] not in FINISHED]
    if not unfinished:
        return None
    unfinished.sort(key=lambda row: row["state"] != "running")  # they end first
    factor = ratio(pairs, quote.prior) or 1.0
    left = [_left(folder, row, seconds[row["trial"]], quote, factor) for row in unfinished]
    running = sum(row["state"] == "running" for row in unfinished)
    return remaining(
        pairs, left, max(running, 1 if running else quote.workers),
        prior=quote.prior, after=quote.report_seconds,
    )  # fmt: skip


def _left(folder: StudyFolder, row: Row, predicted: float, quote: Quote, factor: float) -> float:
    """Predicted seconds of a trial that are not done; of a running one since its last sign, too."""
    epoch, epochs = int(row["epoch"]), int(row["epochs"])
    left = (predicted - quote.start_seconds) * (1 - epoch / epochs)
    if row["state"] != "running":
        return max(0.0, left) + quote.start_seconds
    if epoch == 0:
        left += quote.start_seconds
    return max(0.0, left - _seconds_since_sign(folder, row["trial"]) / factor)


def _seconds_since_sign(folder: StudyFolder, trial_id: str) -> float:
    """Seconds since the trial's last event; before the first one, since it was launched."""
    path = folder.trial(trial_id).path
    for name in ("events.jsonl", "lock"):
        with suppress(FileNotFoundError):
            return max(0.0, time.time() - (path / name).stat().st_mtime)
    return 0.0
