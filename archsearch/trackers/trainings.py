"""The trainings of a run as every tracker shows them. No package of a tracker is needed here."""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from archsearch.results import Results
from archsearch.storage.stored_json import read_typed
from archsearch.storage.trial_folder import TrialFolder
from archsearch.study import Record, canonical_json

Scalar = bool | int | float | str

FULL, STUDY = "request.json", "study.json"
"""The request of a network that is trained in full, and that of a study."""


@dataclass(frozen=True)
class Training:
    """One finished training, also one that failed or diverged: one run of a tracker.

    ``key`` is unique to the run's name, the training and its result, so that a repeated export
    recognizes it. ``settings`` holds all that is part of the training's identity, under dotted
    names (``variant.c1``, ``recipe.lr``); ``outcome`` how it ended, as text. ``curve`` has (epoch,
    seconds from the first epoch's start, values) per epoch, ``final`` the metrics of the record
    (``final/val_accuracy``). A number that was not measured is absent.
    """

    run: str
    cell: str
    seed: int
    key: str
    settings: Mapping[str, Scalar]
    outcome: Mapping[str, str]
    curve: tuple[tuple[int, float, Mapping[str, float]], ...]
    final: Mapping[str, float]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether it has a result."""
        return self.outcome["status"] == "complete"

    @property
    def name(self) -> str:
        """Its cell and its seed: ``(64, 16, 4, 18), seed 0``."""
        return f"{self.cell}, seed {self.seed}"

    @property
    def last_epoch(self) -> int:
        """The last epoch that was finished, 0 if none was."""
        return self.curve[-1][0] if self.curve else 0


def trainings_of(results: Results, name: str = "") -> tuple[list[Training], int]:
    """Return the finished trainings of a run, and how many have no result yet.

    The pilots of a comparison, and the classification run of fine-tuned networks, are included
    under names of their own: ``compare-30M-pilot-rates``.
    """
    name = name or results.name
    labels = {t.trial.id: c.label for c in results.cells for t in c.trials}
    every = (*results.trials, *results.others)
    finished = list[Training]()
    for one in every:
        if one.record is not None:
            cell = labels.get(one.trial.id, one.trial.variant.label)
            identity = one.trial.to_dict()
            seed = one.trial.seed
            finished.append(_training(name, cell, seed, one.trial.id, identity, one.record))
    num_unfinished = len(every) - len(finished)
    classification = [results.classification] if results.classification else []
    for inner in (*results.pilots.values(), *classification):
        trainings, number = trainings_of(inner, f"{name}-{inner.name}")
        finished, num_unfinished = finished + trainings, num_unfinished + number
    return finished, num_unfinished


def is_full_training(folder: Path) -> bool:
    """Whether it is the folder of `archsearch train`, and not of a study."""
    return (folder / FULL).is_file() and not (folder / STUDY).exists()


def full_training(folder: Path) -> tuple[list[Training], int]:
    """As `trainings_of`, for a network that was trained in full.

    Raises:
        ValueError: its request is damaged.
    """
    request = read_typed(folder / FULL, _FullRequest)
    record = TrialFolder(folder, trial_id="").record()
    if record is None:
        return [], 1
    settings = {**request.identity, "recipe.name": request.recipe, "data": request.data}
    name, key = folder.resolve().name, canonical_json(request.identity)
    return [_training(name, name, request.identity.get("seed", 0), key, settings, record)], 0


@dataclass(frozen=True)
class _FullRequest:
    """What is read of the request of a full training."""

    identity: dict[str, Any]
    recipe: str
    data: dict[str, Any]


def file_name(text: str) -> str:
    """Return the text as the name of a folder: ``64-16-4-18`` of ``(64, 16, 4, 18)``."""
    return re.sub(r"[^\w.=]+", "-", text).strip("-.") or "run"


def _training(
    run: str, cell: str, seed: int, trial_id: str, identity: Mapping[str, Any], record: Record
) -> Training:
    texts = {"status": record.status, "kind": record.kind, "error": record.error}
    texts |= {"device": record.device, "notes": "; ".join(record.notes)}
    texts |= {f"versions.{k}": v for k, v in record.versions.items()}
    cost = (
        {} if record.cost is None else {f"trained_{k}": v for k, v in asdict(record.cost).items()}
    )
    values = {**record.metrics, **cost, "seconds": record.seconds}
    return Training(
        run=run,
        cell=cell,
        seed=seed,
        key=_key(run, trial_id, record),
        settings=dict(_flat(identity)),
        outcome={k: v for k, v in texts.items() if v},
        curve=tuple(_curve(record)),
        final={f"final/{k}": v for k, v in _numbers(values).items()},
        seconds=record.seconds,
    )


def _key(run: str, trial_id: str, record: Record) -> str:
    """Return twelve hex digits that another result of the same training does not have."""
    outcome = [record.status, record.kind, record.error, record.seconds, dict(record.metrics)]
    return hashlib.sha256(canonical_json([run, trial_id, outcome]).encode()).hexdigest()[:12]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar]]:
    """Yield every value under its dotted name; lists as text, and nothing for None."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, value if isinstance(value, Scalar) else canonical_json(value)


def _curve(record: Record) -> Iterator[tuple[int, float, dict[str, float]]]:
    elapsed = 0.0
    for row in record.curve:
        if "epoch" in row:
            elapsed += row.get("seconds") or 0.0
            values = {k: v for k, v in row.items() if k not in ("epoch", "epochs")}
            yield row["epoch"], elapsed, _numbers(values)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers among the values."""
    numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
    return {k: float(v) for k, v in numbers.items() if math.isfinite(v)}
