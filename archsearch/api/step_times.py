"""The networks of a budget of time: timed one at a time, until every cell has its nearest size."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.api.compare_request import check_cells
from archsearch.api.live import say
from archsearch.api.options import Launch
from archsearch.core.family import Family
from archsearch.core.plans import STEP_TIMES
from archsearch.core.task import Data
from archsearch.space.step_budget import StepBudget
from archsearch.studies.compare import REPEATS, Families

if TYPE_CHECKING:
    from archsearch.results.step_times import StepTime
    from archsearch.storage.study_folder import StudyFolder

WORK = "archsearch.running.timing:time_steps"

MAX_ROUNDS = 6
"""Each round times every cell's next size. Times on a line need two; the others are for noise."""


def timed(
    families: Families, data: Data, launch: Launch, path: Path, command: list[str]
) -> Families:
    """Time networks until the sizes of all cells are found, and return the families with the times.

    A finished timing is not repeated, so the same command has the same networks.

    Raises:
        ValueError: a network cannot be timed, the times are not stable, or a family has no network
            of this time.
        archsearch.running.run.StudyStopped: if it ends before all are timed.
    """
    from archsearch.storage.study_folder import StudyFolder

    budget = families.budget
    assert isinstance(budget, StepBudget), "only a budget of time is measured"
    folder, times = StudyFolder(path / STEP_TIMES), dict[Family, "StepTime"]()
    if (folder.path / "study.json").exists():
        times = _read(folder)
    for _ in range(MAX_ROUNDS):
        families = replace(families, times={v: time.median for v, time in times.items()})
        _create(folder, families, data, command)
        if not (networks := families.to_time()):
            break
        say(f"Timing {len(networks)} networks {len(REPEATS)} times in turn, one at a time ...")
        _time(folder, launch)
        times = _read(folder)
    families = replace(families, times={v: time.median for v, time in times.items()})
    check_cells(families)
    chosen = [c.variant for cells in families.cells.values() for c in cells if c.variant]
    advice = f"Leave the device idle, remove the folder {STEP_TIMES} and repeat"
    check_stable({v.name: times[v] for v in chosen}, budget.tolerance, advice)
    return families


def _read(folder: "StudyFolder") -> "dict[Family, StepTime]":
    from archsearch.results import load
    from archsearch.results.step_times import step_times

    return step_times(load(folder.path))


def _create(folder: "StudyFolder", families: Families, data: Data, command: list[str]) -> None:
    """Create the timings or add to them; another recipe or other data are refused."""
    study = families.step_times()
    stored = folder.study() if (folder.path / "study.json").exists() else study
    planned = {cell.variant for cell in stored.cells}
    folder.create(study, data, command, extend=not planned >= {c.variant for c in study.cells})


def _time(folder: "StudyFolder", launch: Launch) -> None:
    from archsearch.running.run import run_study

    run_study(
        folder,
        folder.trials(),
        runner="inline",
        device=launch.device,
        work=WORK,
        max_hours=launch.max_hours,
    )


def unstable(times: "Mapping[str, StepTime]", tolerance: float) -> list[str]:
    """Return the networks whose repeats do not agree as well as the tolerance, a fraction."""
    return [name for name, time in times.items() if time.spread > tolerance]


def check_stable(times: "Mapping[str, StepTime]", tolerance: float, advice: str) -> None:
    """Check that the repeated times of networks agree.

    Raises:
        ValueError: they do not; the message ends with ``advice``.
    """
    if names := unstable(times, tolerance):
        worst = ", ".join(f"{name} {times[name].spread:.0%}" for name in names)
        raise ValueError(
            f"the times are not stable: the middle half of {len(REPEATS)} repeats spreads over "
            f"more than the tolerance of {tolerance:.0%} for {worst}. {advice}, or give a larger "
            "--tolerance"
        )
