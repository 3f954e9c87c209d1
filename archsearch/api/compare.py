"""Several families at one budget: their pilot trainings, then the study of the chosen cells.

Each stage is a study in a folder of its own, so a stopped comparison resumes where it was.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.api.options import Launch
from archsearch.api.session import (
    RUNS,
    checked_data,
    folder_name,
    say_failed,
    train_study,
    write_reports,
)
from archsearch.api.step_times import timed
from archsearch.core.task import Data
from archsearch.space.step_budget import StepBudget
from archsearch.studies.compare import Families
from archsearch.study import Study

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archsearch.storage.study_folder import State, StudyFolder


def compare_and_report(families: Families, launch: Launch, command: Iterable[str]) -> "StudyFolder":
    """Train the pilots and the chosen cells and write the reports; repeat the call to resume.

    Raises:
        ValueError: for unusable data, folders or runners, before anything is trained; or if pilots
            failed or have no result, so that nothing can be chosen.
        archsearch.running.run.StudyStopped: if it ends before its plan is done.
    """
    from archsearch.running.stopping import stopped_by_storage

    study, command = families.first_study(), list(command)
    path = Path(launch.out) if launch.out else RUNS / _folder_name(families, study)
    data = checked_data(study, launch, path)
    with stopped_by_storage(path, command):
        _check_folder(path)
        if isinstance(families.budget, StepBudget):
            families = timed(families, data, launch, path, command)
        stages = _Stages(families, data, launch, path, command)
        folder, counts = stages.train(stages.chosen(), path)
        write_reports([folder.path])
        say_failed(path, counts)
    return folder


def _folder_name(families: Families, study: Study) -> str:
    """Return ``compare-30M-digits``, or ``compare-2ms-digits`` for a budget of time."""
    is_time = isinstance(families.budget, StepBudget)
    return folder_name(replace(study, name=f"compare-{families.budget}" if is_time else "compare"))


def _check_folder(path: Path) -> None:
    """Refuse the folder of another study, before pilots are trained in it."""
    from archsearch.storage.study_folder import StudyFolder

    if not (path / "study.json").exists():
        return
    if (name := StudyFolder(path).request()["name"]) != "compare":
        raise ValueError(f"{path} holds the study {name}: choose another folder with --out")


@dataclass
class _Stages:
    """The studies of a comparison, one after the other; a finished one is not trained again."""

    families: Families
    data: Data
    launch: Launch
    path: Path
    command: list[str]

    def __post_init__(self) -> None:
        self._started = time.monotonic()

    def chosen(self) -> Study:
        """Train the pilots and return the study of the cells that they choose."""
        from archsearch.results import load
        from archsearch.results.pilots import best_cells, rate_choices

        families, first = self.families, self.families.first_rates
        most, rates, earlier = families.final(first, families.costliest()), first, None
        if pilots := families.pilot_rates():
            cells = families.pilot_cells(first)
            earlier = self._pilots(pilots, [cells, most] if cells else [most])
            rates = {name: c.rate for name, c in rate_choices(load(earlier.path)).items()}
        if not (pilots := families.pilot_cells(rates)):
            return families.final(rates)
        folder = self._pilots(pilots, [most], earlier)
        return families.final(rates, best_cells(load(folder.path), families.num_cells))

    def _pilots(
        self, study: Study, later: Sequence[Study], earlier: "StudyFolder | None" = None
    ) -> "StudyFolder":
        folder, counts = self.train(study, self.path / study.name, later, earlier)
        if counts.get("failed"):
            say_failed(folder.path, counts)
            raise ValueError("pilot trainings failed, so that nothing can be chosen by them")
        return folder

    def train(
        self,
        study: Study,
        path: Path,
        later: Sequence[Study] = (),
        earlier: "StudyFolder | None" = None,
    ) -> "tuple[StudyFolder, Mapping[State, int]]":
        """Train one stage in ``path``, in the time that is left."""
        launch = replace(self.launch, out=path).later(self._started)
        return train_study(
            study, self.data, launch, path, self.command,
            later=later, earlier=earlier, run=self.path,
        )  # fmt: skip
