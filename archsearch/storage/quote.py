"""The file quote.json of a study: what its trainings were predicted to take."""

from pathlib import Path
from typing import Annotated

import msgspec

from archsearch.storage.files import log
from archsearch.storage.stored_json import read_typed

FILE = "quote.json"

Seconds = Annotated[float, msgspec.Meta(ge=0)]
TrialId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]


class Quote(msgspec.Struct, frozen=True):
    """What is read of quote.json; earlier versions stored only ``seconds``, without the parts.

    ``seconds`` is by trial id, and ``start_seconds`` of it pass before a trial's first step. Each
    worker spends ``setup_seconds`` once, and ``report_seconds`` follow the last trial.
    """

    seconds: dict[TrialId, Seconds]
    workers: Annotated[int, msgspec.Meta(ge=1)] = 1
    start_seconds: Seconds = 0.0
    setup_seconds: Seconds = 0.0
    report_seconds: Seconds = 0.0

    @property
    def prior(self) -> float:
        """The weight of the quote beside measured times, in seconds: one mean training."""
        return sum(self.seconds.values()) / len(self.seconds) if self.seconds else 0.0


def read_quote(folder: Path) -> Quote | None:
    """The quote of the study in ``folder``; None without one.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return read_typed(folder / FILE, Quote)
    except FileNotFoundError:
        return None


def quote_or_warning(folder: Path) -> Quote | None:
    """As `read_quote`, but a damaged file costs only a warning: it is of no use to a training."""
    try:
        return read_quote(folder)
    except ValueError as error:
        log.warning("No time left is predicted: %s", error)
        return None
