"""Where a study stands, read off its folder: also while it runs, also on another machine.

Cheap by reading little: of a finished trial the first bytes of its record, of the others their
lock and events. 10,000 finished trials take well under a second.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsearch.core.family import names_of
from archsearch.core.metrics import Metric
from archsearch.families import variant_from_dict
from archsearch.storage import lock
from archsearch.storage.study_folder import FINISHED, State, StudyFolder, TrialFolder
from archsearch.tasks import task_from_dict


@dataclass(frozen=True)
class Status:
    """A study at a glance. ``rows`` has a mapping per trial, in plan order.

    ``running`` says whether a driver has the folder. ``best`` is the row with the best value of the
    study's metric among the complete trials. ``command`` starts or continues the study.
    """

    name: str
    question: str
    metric: str
    command: str
    running: bool
    counts: Mapping[State, int]
    best: Mapping[str, Any] | None
    rows: tuple[Mapping[str, Any], ...]

    @property
    def finished(self) -> int:
        return sum(self.counts.get(state, 0) for state in FINISHED)


def overview(path: Path | str) -> Status:
    """The state of every trial of the study in ``path``, and what follows from them.

    Raises:
        ValueError: when there is no study.
    """
    folder = StudyFolder(path)
    request = folder.request()
    by = task_from_dict(request.get("task", {})).metric(metric := request["metric"])
    rows = tuple(_rows(folder, request, by))
    complete = [r for r in rows if r["state"] == "complete" and r[metric] is not None]
    return Status(
        name=request["name"],
        question=request["question"],
        metric=metric,
        command=shlex.join(request["command"]),
        running=lock.is_held(folder.path / "lock"),
        counts=Counter(row["state"] for row in rows),
        best=max(complete, key=lambda row: by.merit(row[metric]), default=None),
        rows=rows,
    )


def status(path: Path | str) -> list[dict[str, Any]]:
    """The rows of `overview`: trial, network, seed, state, epoch, epochs, the metric, note."""
    return [dict(row) for row in overview(path).rows]


def _rows(folder: StudyFolder, request: Mapping[str, Any], by: Metric) -> Iterator[dict[str, Any]]:
    labels = _labels(request)
    launched = folder.launched()
    epochs = request["recipe"]["epochs"]
    for trial_id in dict.fromkeys((*labels, *launched)):
        network, seed = labels.get(trial_id) or _label(folder.trial(trial_id))
        row = {"trial": trial_id, "network": network, "seed": seed}
        state = _where(folder, trial_id, by) if trial_id in launched else _nowhere(by)
        yield {**row, **state, "epochs": epochs}


def _labels(request: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Network and seed of each planned trial, in the order of the plan."""
    found: dict[str, tuple[str, int]] = {}
    variants = [variant_from_dict(c["variant"]) if c["variant"] else None for c in request["cells"]]
    names = list(names_of(variants))
    for seed in request["seeds"]:
        for cell, name in zip(request["cells"], names, strict=True):
            if trial_id := cell["trials"].get(str(seed)):
                found.setdefault(trial_id, (name, seed))
    return found


def _label(trial: TrialFolder) -> tuple[str, int | None]:
    """Of a trial beyond the plan, from its own spec."""
    try:
        spec = trial.trial()
    except (FileNotFoundError, ValueError):
        return "", None
    return spec.variant.name, spec.seed


def _nowhere(by: Metric) -> dict[str, Any]:
    return {"state": "pending", "epoch": 0, by.name: None, "note": ""}


def _where(folder: StudyFolder, trial_id: str, by: Metric) -> dict[str, Any]:
    """A finished trial by a glance at its record, a failed one by all of it; else its events."""
    seen = folder.glance(trial_id)
    if seen is not None and seen[0] != "failed":
        return {"state": seen[0], "epoch": None, by.name: by.of_metrics(seen[1]), "note": ""}
    trial = folder.trial(trial_id)
    last = dict(next(reversed(trial.curve()), {}))
    epoch = last.get("epoch", 0)
    now = {"state": trial.state(), "epoch": epoch, by.name: by.of_metrics(last)}
    record = trial.record() if seen is not None else None
    note = "" if record is None else f"{record.kind}: {record.error.partition(chr(10))[0]}"
    return {**now, "note": note}
