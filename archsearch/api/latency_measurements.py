"""The measurements of latency before, during and after the trainings of a run."""

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.api.live import say
from archsearch.api.options import Launch
from archsearch.api.step_times import check_stable, unstable
from archsearch.core.plans import LATENCIES, Latency
from archsearch.core.task import Data
from archsearch.latency.known import Latencies
from archsearch.study import Record, Trial

if TYPE_CHECKING:
    from archsearch.core.family import Family
    from archsearch.results.latencies import MeasuredLatencies
    from archsearch.results.step_times import StepTime
    from archsearch.storage.study_folder import StudyFolder
    from archsearch.studies.latency import LatencyGrid, LatencySearch, Purposes


WORK = "archsearch.latency.timing:time_latency"

MAX_ROUNDS = 8
"""Two rounds are for the model; in each later one the doubtful network of a cell is measured."""


@dataclass
class Measurements:
    """The study of the measurements in the folder of a run."""

    planned: "LatencyGrid | LatencySearch"
    latency: Latency
    data: Data
    launch: Launch
    path: Path
    command: list[str]

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    @property
    def folder(self) -> "StudyFolder":
        from archsearch.storage.study_folder import StudyFolder

        return StudyFolder(self.path / LATENCIES)

    def complete(self) -> "MeasuredLatencies":
        """Measure networks until the model is known and every cell of a grid is solved.

        Networks whose repeats do not agree are measured once more, and again by the next command.
        Once the trainings have begun, nothing is decided again.

        Raises:
            ValueError: the folder holds measurements of another target, the target fails, or its
                times are not stable.
        """
        self._create(self._stored() or self.planned.to_measure(self._nothing))
        if (self.path / "study.json").exists() and not self.launch.extend:
            return self._measure()
        measured = self._solved()
        if names := self._unstable({**self._of_model(measured), **self._deciding(measured)}):
            say(f"The times of {', '.join(names)} are not stable: they are measured again.")
            self._set_aside(names)
            measured = self._solved()
        times = self._deciding(measured)
        self._set_aside(self._unstable(times))
        advice = "Leave the target idle and repeat: the command measures these networks again"
        check_stable(times, self.planned.tolerance, advice)
        say(summary(measured))
        return measured

    def _solved(self) -> "MeasuredLatencies":
        """Measure in rounds, each decided by the ones before."""
        for number in range(MAX_ROUNDS):
            measured = self._measure()
            more = self.planned.to_measure(measured.known)
            if not more or number == MAX_ROUNDS - 1:
                break
            self._create({**self._stored(), **more}, extend=True)
        return measured

    def add(self, networks: "Iterable[Family]") -> None:
        """Measure networks that the trainings have chosen."""
        from archsearch.studies.latency import chosen

        measured = measured_in(self.path)
        assert measured is not None, "the run was measured before it was trained"
        if more := chosen(list(networks), measured):
            self._create({**self._stored(), **more}, extend=True)
            self._measure()

    @property
    def _nothing(self) -> Latencies:
        return Latencies(self.planned.study().recipe.image_size, self.data.num_classes)

    def _stored(self) -> "Purposes":
        """The networks of the folder, and why each is measured."""
        if not (self.folder.path / "study.json").exists():
            return {}
        cells = self.folder.study().cells
        return {cell.variant: str(cell.requested["purpose"]) for cell in cells if cell.variant}

    def _create(self, purposes: "Purposes", *, extend: bool = False) -> None:
        from archsearch.studies.latency import measurements

        study = measurements(self.planned.study(), self.latency, purposes)
        self.folder.create(study, self.data, self.command, extend=extend)

    def _measure(self) -> "MeasuredLatencies":
        """Measure what the folder has not measured yet.

        Raises:
            ValueError: the target fails; the next command measures the network again.
        """
        from archsearch.latency.timing import FILES
        from archsearch.reports.phrases import plural
        from archsearch.running.run import retry, run_study

        failed = list[tuple[Trial, Record]]()

        def add(trial: Trial, record: Record) -> None:
            if record.status == "failed":
                failed.append((trial, record))

        def trials() -> Iterator[Trial]:
            for trial in waiting:
                if failed:
                    return
                yield trial

        folder = self.folder
        retry(folder)
        waiting = [t for t in folder.trials() if folder.trial(t.id).record() is None]
        if waiting:
            networks = plural(len({trial.variant for trial in waiting}), "network")
            say(f"Measuring the latency of {networks}, several times in turn ...")
            run_study(
                folder, trials(), runner="inline", device="cpu", work=WORK,
                max_hours=self.launch.later(self.started).max_hours, on_record=add,
            )  # fmt: skip
        if failed:
            raise ValueError(_failure(*failed[0]))
        shutil.rmtree(folder.path / FILES, ignore_errors=True)
        measured = measured_in(self.path)
        assert measured is not None, "the folder was created"
        return measured

    def _deciding(self, measured: "MeasuredLatencies") -> "dict[str, StepTime]":
        """Return the times of the networks that decide: the cells of a grid, else the model's."""
        study = self.planned.study(measured)
        cells = {cell.variant for cell in study.cells} if study.cells else measured.known.fitted
        return {v.name: time for v, time in measured.times.items() if v in cells}

    def _of_model(self, measured: "MeasuredLatencies") -> "dict[str, StepTime]":
        return {v.name: measured.times[v] for v in measured.known.fitted}

    def _unstable(self, times: "Mapping[str, StepTime]") -> list[str]:
        return unstable(times, self.planned.tolerance)

    def _set_aside(self, names: Sequence[str]) -> None:
        """Make these networks pending again."""
        folder = self.folder
        with folder.lock():
            for trial in folder.trials():
                if trial.variant.name in names:
                    with folder.trial(trial.id).lock():
                        folder.trial(trial.id).set_record_aside()


def _failure(trial: Trial, record: Record) -> str:
    text = record.error if record.kind == "target" else record.error.partition("\n")[0]
    return f"the latency of {trial.variant.name} cannot be measured: {text}"


def summary(measured: "MeasuredLatencies") -> str:
    """Return what was measured, and how well the model predicts: one sentence."""
    model, purposes = measured.known.model, list(measured.purposes.values())
    error = "" if model.error is None else (
        f"; each is predicted from the others with an error of {model.error:.1%} (root mean square)"
    )  # fmt: skip
    others = len(purposes) - model.num_networks
    doubtful = f", and {others} more" if others else ""
    return f"Latency: {model.num_networks} networks measured for the model{doubtful}{error}."


def measured_in(path: Path) -> "MeasuredLatencies | None":
    """Return what is measured in the run ``path``; None if nothing is planned there yet."""
    from archsearch.results.loading import measured_latencies

    return measured_latencies(path)
