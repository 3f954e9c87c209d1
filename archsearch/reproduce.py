"""Train one cell of a finished run again and check that the result agrees with the run.

With a seed of the run it should be the same number on the same kind of CPU with the same torch and
operator: elsewhere sums are taken in another order and the last digits grow apart. Otherwise, and
with a new seed, it should be in the interval for one more repeat (Student's prediction interval
over the run's other seeds).
"""

from dataclasses import dataclass, replace
from pathlib import Path

from archsearch.networks import find_cell
from archsearch.results import CellResult, Results, load
from archsearch.running.preflight import preflight_device
from archsearch.running.run import run_study
from archsearch.running.stopping import stopped_by_storage
from archsearch.stats.intervals import Interval, prediction_interval
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record, Trial

FOLDER = "reproduced"


@dataclass(frozen=True)
class Reproduction:
    """The result of training a cell again.

    ``value`` is the new training's value, None if it has none. ``original`` is the run's value for
    the same seed, ``predicted`` the interval for a new seed; either may be None. ``differences``
    says what keeps the same seed from giving the same digits here.
    """

    label: str
    seed: int
    value: float | None
    predicted: Interval | None
    original: float | None
    error: str = ""
    differences: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool | None:
        """Whether the value agrees with the run; None if the run has too few seeds to say."""
        if self.value is None:
            return False
        if self.original is not None and not self.differences:
            return self.value == self.original
        if self.predicted is None or self.predicted.low is None:
            return None
        return self.value in self.predicted


def reproduce(
    run_dir: Path, cell: str, seed: int | None = None, device: str = "auto"
) -> Reproduction:
    """Train ``cell`` again under ``run_dir/reproduced``.

    Repeat the call to resume, or to read a finished training. Without ``seed``, the seed
    after the cell's highest is used.

    Raises:
        ValueError: if the run, cell or device does not exist, or the data differs from the run's.
        archsearch.running.run.StudyStopped: if the training was stopped, or the storage failed.
    """
    with stopped_by_storage(run_dir):
        return _reproduce(run_dir, cell, seed, device)


def _reproduce(run_dir: Path, cell: str, seed: int | None, device: str) -> Reproduction:
    results = load(run_dir)
    preflight_device(results.study.recipe, device)
    cell_result = find_cell(results, cell)
    planned = cell_result.cell
    by = results.compare().metric
    values = {s: v for s, v in cell_result.values(by).items() if v is not None}
    if seed is None:
        seed = max((t.trial.seed for t in cell_result.trials), default=-1) + 1
    trial = results.study.trial_in(planned, results.data, seed)
    record = _train(run_dir, results, cell_result, trial, device)
    others = [v for s, v in values.items() if s != seed]
    predicted = prediction_interval(others) if others else None
    earlier = next((t.record for t in cell_result.trials if t.trial.seed == seed), None)
    return Reproduction(
        cell_result.label, seed, by.value_of(record), predicted, values.get(seed), record.error,
        differences_of(earlier, record) if earlier else (),
    )  # fmt: skip


def differences_of(earlier: Record, later: Record) -> tuple[str, ...]:
    """Return what keeps two trainings of one trial from giving the same digits."""
    pairs = {"device": (earlier.device, later.device)}
    # Records without the operator's digest are of code with other CPU kernels.
    for name in ("torch", "operator"):
        first, second = (str(r.versions.get(name, "unknown")) for r in (earlier, later))
        pairs[name] = (first, second)
    differences = [f"{name} {a}, here {b}" for name, (a, b) in pairs.items() if a != b]
    if earlier.device == later.device and not later.device.startswith("cpu"):
        differences.append(f"{later.device} may add in another order each time")
    return tuple(differences)


def _train(run_dir: Path, results: Results, cell: CellResult, trial: Trial, device: str) -> Record:
    study = replace(results.study, name=FOLDER, cells=(cell.cell,), seeds=(trial.seed,), plan=None)
    folder_name = f"{trial.variant.name}-seed{trial.seed}-{trial.id}"
    folder = StudyFolder(run_dir / FOLDER / folder_name)
    folder.create(study, results.data)
    run_study(folder, (trial,), runner="inline", device=device)
    record = folder.trial(trial.id).record()
    assert record is not None, "run_study writes a record for every trial"
    return record
