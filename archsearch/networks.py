"""Names of networks, and the networks that they name.

``T`` ... ``H`` and ``64-16-4-18`` name an untrained InternImage; other families parse their own
names (`archsearch.core.family.Family.parse`). ``RUN:best``, ``RUN:64-16-4-18`` and
``RUN:TRIAL`` name a network of a run; TRIAL is a trial's id or the start of one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.core.family import Family
from archsearch.families.internimage import parse_network

if TYPE_CHECKING:
    from archsearch.results import CellResult, Results, TrialResult


@dataclass(frozen=True)
class NetworkName:
    """``which`` network, and the run that it belongs to (None: no run)."""

    which: str
    run: Path | None = None

    @classmethod
    def parse(cls, text: str) -> "NetworkName":
        """Split a name at its last colon: the folder of a run is before it."""
        run, colon, which = text.rpartition(":")
        return cls(which, Path(run)) if colon else cls(text)


def find_variant(text: str) -> Family:
    """Return the InternImage of that name, or a network of a run, without weights.

    Raises:
        ValueError: if no network has that name.
    """
    name = NetworkName.parse(text)
    if name.run is None:
        return parse_network(name.which)
    from archsearch.results import load  # loads numpy, which a plain name does not need

    variant = find_cell(load(name.run), name.which).cell.variant
    assert variant is not None, "find_cell returns no infeasible cell"
    return variant


def find_cell(results: "Results", which: str) -> "CellResult":
    """Return the cell by ``best``, its label in reports, its numbers, or one of its trials.

    Raises:
        ValueError: if no cell or several cells match; the message lists the possible names. For
            ``best`` also if the run was compared by the test split.
    """
    if which == "best":
        results.study.check_metrics()
        best = results.compare().ranking.best
        if best is None:
            raise ValueError(f"{results.name} has no best cell yet: no training has finished")
        return results.network(best)
    labels = {c.label: c.cell.variant.name for c in results.cells if c.cell.variant is not None}
    matches = [label for label, name in labels.items() if which in (label, name)]
    if which in labels or len(matches) == 1:
        return results.network(which if which in labels else matches[0])
    if matches:
        names = ", ".join(map(repr, matches))
        raise ValueError(
            f"{which} matches {len(matches)} networks of {results.name}: give one of {names}"
        )
    cells = [c for c in results.cells if any(_id_starts(t, which) for t in c.trials)]
    if cells and len({c.label for c in cells}) == 1:
        return cells[0]
    names = ", ".join(dict.fromkeys(labels.values()))
    raise ValueError(f"{results.name} has no cell or trial {which!r}; it has {names}")


def find_trial(results: "Results", which: str) -> "TrialResult":
    """Return one training: by its id or the start of it, else the best training of that cell.

    Raises:
        ValueError: if no training matches, or none of the cell's trainings has a result.
    """
    matches = [t for t in (*results.trials, *results.others) if _id_starts(t, which)]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise ValueError(
            f"{len(matches)} trials of {results.name} start with {which!r}: give more of the id"
        )
    by = results.study.task.choosing_metric(results.study.metric)
    cell = find_cell(results, which)
    merits = {t.trial.id: by.merit(v) for t in cell.trials if (v := t.value(by)) is not None}
    if not merits:
        raise ValueError(f"no training of {cell.label} in {results.name} has a result yet")
    best = max(merits, key=lambda trial_id: merits[trial_id])
    return next(t for t in cell.trials if t.trial.id == best)


def _id_starts(result: "TrialResult", which: str) -> bool:
    return bool(which) and result.trial.id.startswith(which)
