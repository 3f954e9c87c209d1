"""Train one cell of a finished run again and say whether it comes out as the run says.

With a new seed the value should fall where one more repeat falls (Student's prediction interval
over the run's seeds); with a seed that the run has, on a CPU, it should be the same number.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from archsearch.networks import cell_named
from archsearch.results import CellResult, Results, load
from archsearch.running.run import run_study
from archsearch.running.runners import Name
from archsearch.stats.intervals import Interval, next_value
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record, Trial

FOLDER = "reproduced"


@dataclass(frozen=True)
class Reproduction:
    """``value`` is the new training's, None if it gave none; ``same`` the run's of that seed."""

    label: str
    seed: int
    value: float | None
    expected: Interval | None
    same: float | None
    error: str = ""

    @property
    def agrees(self) -> bool | None:
        """None where the run has too few seeds to say."""
        if self.value is None:
            return False
        if self.same is not None:
            return self.value == self.same
        known = self.expected is not None and self.expected.low is not None
        return self.value in self.expected if known and self.expected else None


def reproduce(
    run_dir: Path, cell: str, seed: int | None = None, runner: Name = "inline", device: str = "auto"
) -> Reproduction:
    """Train ``cell`` again under ``run_dir/reproduced``; the same call goes on or reads its record.

    Without ``seed`` it is the first that the run does not have.

    Raises:
        ValueError: no such run or cell, or data that is not what the run was made with.
        archsearch.running.run.StudyStopped: when it was stopped before its end.
    """
    results = load(run_dir)
    found = cell_named(results, cell)
    assert found.cell.variant is not None
    by = results.compare().metric
    values = {s: v for s, v in found.values(by).items() if v is not None}
    if seed is None:
        seed = max((t.trial.seed for t in found.trials), default=-1) + 1
    trial = results.study.trial(found.cell.variant, results.data, seed)
    record = _trained(run_dir, results, found, trial, runner, device)
    value = by.of(record)
    others = [v for s, v in values.items() if s != seed]
    expected = next_value(others) if others else None
    return Reproduction(found.label, seed, value, expected, values.get(seed), record.error)


def _trained(
    run_dir: Path, results: Results, found: CellResult, trial: Trial, runner: Name, device: str
) -> Record:
    study = replace(results.study, name=FOLDER, cells=(found.cell,), seeds=(trial.seed,), plan=None)
    place = f"{trial.variant.name}-seed{trial.seed}-{trial.id}"
    folder = StudyFolder(run_dir / FOLDER / place)
    folder.path.parent.mkdir(exist_ok=True)
    folder.create(study, results.data)
    run_study(folder, (trial,), runner=runner, device=device)
    record = folder.trial(trial.id).record()
    assert record is not None, "run_study brings every trial to its record"
    return record
