"""The name of a network, wherever one is asked for, and what it names.

``T`` ... ``H`` and ``64-16-4-18`` name an untrained network; ``RUN:best``, ``RUN:64-16-4-18`` and
``RUN:TRIAL`` one of a run, where TRIAL is a trial's id or how it begins.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.families.internimage import InternImageFamily, parse_network

if TYPE_CHECKING:
    from archsearch.results import CellResult, Results, TrialResult


@dataclass(frozen=True)
class NetworkName:
    """``which`` network: of a run's, where there is a run."""

    which: str
    run: Path | None = None

    @classmethod
    def parse(cls, text: str) -> "NetworkName":
        """What stands before the last colon is the folder of a run."""
        run, colon, which = text.rpartition(":")
        return cls(which, Path(run)) if colon else cls(text)


def variant_named(text: str) -> InternImageFamily:
    """The network of that name, without weights.

    Raises:
        ValueError: nothing has that name.
    """
    name = NetworkName.parse(text)
    if name.run is None:
        return parse_network(name.which)
    from archsearch.results import load  # with numpy, which a plain name can do without

    variant = cell_named(load(name.run), name.which).cell.variant
    assert isinstance(variant, InternImageFamily), "a cell that is named can be trained"
    return variant


def cell_named(results: "Results", which: str) -> "CellResult":
    """The cell called ``best``, by its label in reports, its numbers, or one of its trials.

    Raises:
        ValueError: for no such network, or several of these numbers, naming those there are.
    """
    if which == "best":
        best = results.compare().ranking.best
        if best is None:
            raise ValueError(f"{results.name} has no best cell yet: nothing has finished")
        return results.network(best)
    labels = {c.label: c.cell.variant.name for c in results.cells if c.cell.variant is not None}
    fitting = [label for label, name in labels.items() if which in (label, name)]
    if which in labels or len(fitting) == 1:
        return results.network(which if which in labels else fitting[0])
    if fitting:
        several = ", ".join(map(repr, fitting))
        raise ValueError(f"{which} is {len(fitting)} networks of {results.name}: say {several}")
    cells = [c for c in results.cells if any(_begins(t, which) for t in c.trials)]
    if cells and len({c.label for c in cells}) == 1:
        return cells[0]
    names = ", ".join(dict.fromkeys(labels.values()))
    raise ValueError(f"{results.name} has no cell or trial {which!r}: there are {names}")


def trial_named(results: "Results", which: str) -> "TrialResult":
    """One training: by its id or how it begins, else the best of the cell of that name.

    Raises:
        ValueError: no training is named so, or none of the cell's has a result.
    """
    fitting = [t for t in (*results.trials, *results.others) if _begins(t, which)]
    if len(fitting) == 1:
        return fitting[0]
    if len(fitting) > 1:
        raise ValueError(f"{len(fitting)} trials of {results.name} begin with {which!r}: give more")
    by = results.compare().metric
    cell = cell_named(results, which)
    merits = {t.trial.id: by.merit(v) for t in cell.trials if (v := t.value(by)) is not None}
    if not merits:
        raise ValueError(f"no training of {cell.label} in {results.name} has a result yet")
    best = max(merits, key=lambda trial_id: merits[trial_id])
    return next(t for t in cell.trials if t.trial.id == best)


def _begins(result: "TrialResult", which: str) -> bool:
    return bool(which) and result.trial.id.startswith(which)
