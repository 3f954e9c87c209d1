"""The state of a study, read from its folder, also while it runs or on another machine.

It reads little: of a finished trial the first bytes of its record, of others their lock and events.
10,000 finished trials take well under a second.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsearch.core.metrics import PARTS, Metric
from archsearch.core.plans import Halve, Plan, Search, Tune
from archsearch.families import variant_from_dict
from archsearch.families.naming import Naming
from archsearch.stats.remaining import Remaining
from archsearch.storage import lock
from archsearch.storage.request import data_of, plan_of
from archsearch.storage.resume import resume_command
from archsearch.storage.stored_json import well_formed
from archsearch.storage.study_folder import FINISHED, State, StudyFolder
from archsearch.storage.time_left import time_left
from archsearch.study import Trial
from archsearch.tasks import task_from_dict


@dataclass(frozen=True)
class StudyStatus:
    """The state of a study and its trials. ``rows`` has a mapping per trial, in plan order.

    ``running`` is whether a driver holds the folder. ``best`` is the row with the best value of
    the study's metric among the complete trials. ``command`` starts or resumes the study.
    ``finished`` is whether it has trained its plan; None if the plan may add trials.
    ``data_notes`` say what is left out of the data. ``left`` is the time left, if it was quoted.
    """

    name: str
    question: str
    metric: str
    command: str
    finished: bool | None
    running: bool
    counts: Mapping[State, int]
    best: Mapping[str, Any] | None
    rows: tuple[Mapping[str, Any], ...]
    data_notes: tuple[str, ...] = ()
    left: Remaining | None = None


def study_status(path: Path | str) -> StudyStatus:
    """The state of the study in ``path`` and of every trial.

    A row has trial, network, seed, state, epoch, epochs, the metric, seconds and note.

    Raises:
        ValueError: there is no study.
    """
    folder = StudyFolder(path)
    request = folder.request()
    with well_formed(folder.path / "study.json"):
        metric = task_from_dict(request.get("task", {})).metric(request["metric"])
        labels, data = _labels(request), data_of(request)
        plan, command = plan_of(request.get("plan", {})), list(request["command"])
    rows = tuple(_rows(folder, request, labels, metric))
    counts = Counter[State](row["state"] for row in rows)
    complete = [r for r in rows if r["state"] == "complete" and r[metric.name] is not None]
    return StudyStatus(
        name=request["name"],
        question=request["question"],
        metric=metric.name,
        command=resume_command(command, folder.path),
        finished=_is_finished(plan, counts),
        running=lock.is_held(folder.path / "lock"),
        counts=counts,
        best=max(complete, key=lambda row: metric.merit(row[metric.name]), default=None),
        rows=rows,
        data_notes=data.notes,
        left=time_left(folder, rows),
    )


def _is_finished(plan: Plan | None, counts: Mapping[State, int]) -> bool | None:
    """Whether nothing is left to train; None if the plan may add trials, or may skip pending ones.

    A halving leaves the trials of pruned networks pending for ever.
    """
    done = sum(counts.get(state, 0) for state in FINISHED)
    pending = counts.get("pending", 0)
    if not done or sum(counts.values()) > done + (pending if isinstance(plan, Halve) else 0):
        return False
    if isinstance(plan, Search):
        return True if done >= plan.num_trials else None
    return True if plan is None or isinstance(plan, Tune) else None


def _rows(
    folder: StudyFolder,
    request: Mapping[str, Any],
    labels: Mapping[str, tuple[str, int]],
    metric: Metric,
) -> Iterator[dict[str, Any]]:
    launched = folder.launched()
    epochs = request["recipe"]["epochs"]
    for trial_id in dict.fromkeys((*labels, *launched)):
        label = labels.get(trial_id) or _label(folder.launched_trial(trial_id))
        if label is None:
            continue
        network, seed = label
        row = {"trial": trial_id, "network": network, "seed": seed}
        pending = {"state": "pending", "epoch": 0, metric.name: None, "seconds": None, "note": ""}
        state = _launched_state(folder, trial_id, metric) if trial_id in launched else pending
        yield {**row, **state, "epochs": epochs}


def _labels(request: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Network and seed of each planned trial, in the order of the plan."""
    labels: dict[str, tuple[str, int]] = {}
    cells = request["cells"]
    variants = [variant_from_dict(c["variant"]) if c["variant"] else None for c in cells]
    settings = [cell.get("settings", {}) for cell in cells]
    naming = Naming.of(zip(variants, settings, strict=True))
    for seed in request["seeds"]:
        for cell, variant, own in zip(cells, variants, settings, strict=True):
            if variant is not None and (trial_id := cell["trials"].get(str(seed))):
                labels.setdefault(trial_id, (naming.name(variant.name, variant, own), seed))
    return labels


def _label(trial: Trial | None) -> tuple[str, int] | None:
    """Network and seed of a trial beyond the plan; None if its spec is damaged."""
    return None if trial is None else (trial.variant.name, trial.seed)


def _launched_state(folder: StudyFolder, trial_id: str, metric: Metric) -> dict[str, Any]:
    """State, epoch, metric and note: from a record's summary, or if it failed from all of it; of
    an unfinished trial from its events."""
    summary = folder.record_summary(trial_id)
    if summary is not None and summary[0] != "failed":
        value = metric.value_in(summary[1])
        seconds = _seconds(summary[1])
        return {
            "state": summary[0], "epoch": None, metric.name: value, "seconds": seconds, "note": "",
        }  # fmt: skip
    trial = folder.trial(trial_id)
    last = dict(next(reversed(trial.curve()), {}))
    epoch = last.get("epoch", 0)
    row = {"state": trial.state(), "epoch": epoch, metric.name: metric.value_in(last)}
    row["seconds"] = None
    record = trial.record() if summary is not None else None
    note = "" if record is None else f"{record.kind}: {record.error.partition(chr(10))[0]}"
    return {**row, "note": note}


def _seconds(metrics: Mapping[str, float | int | None]) -> float | None:
    """The time of a trial, from the parts among its metrics; None for a record without them."""
    parts = [n for part in PARTS if (n := metrics.get(f"{part}_seconds")) is not None]
    return sum(parts) if parts else None
