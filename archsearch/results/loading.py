"""The results of a run from its folder, or from its trainings."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.core.cell import Cell
from archsearch.core.family import Family, has_other_source
from archsearch.core.plans import Halve, Tune
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data
from archsearch.families.naming import Naming
from archsearch.results.cells import CellResult, TrialResult
from archsearch.results.latencies import MeasuredLatencies
from archsearch.results.run_results import Results
from archsearch.study import Study, Trial

if TYPE_CHECKING:
    from archsearch.searching.halving import HalvingOutcome
    from archsearch.storage.study_folder import TrialFolder

Network = tuple[Family | None, Recipe]
"""A variant and how it is trained: a cell may have settings of its own."""


def load(run_dir: str | Path) -> Results:
    """Return the results of a run, finished or not.

    Raises:
        ValueError: if the folder holds no study.
    """
    from archsearch.storage.pilots import inner_folders
    from archsearch.storage.study_folder import StudyFolder

    folder = StudyFolder(Path(run_dir))
    if not (folder.path / "study.json").exists():
        raise ValueError(f"{run_dir} holds no study: it has no study.json")
    stored = folder.contents()
    trials = tuple(
        _read_trial(t, folder.trial(t.id)) if t.id in stored.launched else TrialResult(t, "pending")
        for t in stored.trials
    )
    name, study, data = Path(run_dir).resolve().name, stored.study, stored.data
    latencies = measured_latencies(folder.path)
    if latencies is not None:
        trials = latencies.added_to(trials)
    results = assemble(name, study, data, stored.request, trials, _halving(study, data, trials))
    if latencies is not None:
        results = replace(results, latencies=latencies.results)
    if isinstance(study.plan, Tune):
        return replace(results, pilots={f.name: load(f) for f in inner_folders(folder.path)})
    if study.is_fine_tuned and (inner := inner_folders(folder.path)):
        return replace(results, classification=load(inner[-1]))
    return results


def measured_latencies(run: Path) -> MeasuredLatencies | None:
    """Return the latencies that are measured in a run's folder; None if none are planned there."""
    from archsearch.core.plans import LATENCIES

    folder = run / LATENCIES
    return MeasuredLatencies(load(folder)) if (folder / "study.json").exists() else None


def _read_trial(trial: Trial, folder: "TrialFolder") -> TrialResult:
    """Return a launched trial; its record is read once, and its state only without one."""
    from archsearch.storage.record_file import FINISHED
    from archsearch.storage.trial_folder import PREDICTIONS

    record = folder.record()
    if record is not None:
        path = folder.path / PREDICTIONS
        predictions = path if path.is_file() else None
        return TrialResult(trial, record.status, record, record.curve, predictions)
    curve, state = folder.curve(), folder.state()
    if state in FINISHED:  # its record is damaged behind a good head
        state = "interrupted" if curve else "pending"
    return TrialResult(trial, state, None, curve)


def _halving(study: Study, data: Data, trials: tuple[TrialResult, ...]) -> "HalvingOutcome | None":
    """Return the outcome of a halving, from the records; None if unfinished or another plan."""
    from archsearch.searching.adaptive_plan import drive
    from archsearch.searching.plans import halving_of

    if not isinstance(study.plan, Halve):
        return None
    # New trials have ids of the current NUMERICS; the folder's may have ids of earlier ones.
    records = {replace(t.trial).id: t.record for t in trials}
    return drive(halving_of(study, data), records.get)


def assemble(
    name: str,
    study: Study,
    data: Data,
    request: Mapping[str, Any],
    trials: tuple[TrialResult, ...],
    halved: "HalvingOutcome | None" = None,
) -> Results:
    """Assign trainings to their cells; a pure function.

    Seeds beyond the study's own are extra seeds (``--seeds auto``). A training without a cell (of a
    search) gets its own cell if it has the study's recipe and data; else it goes to ``others``.
    With ``halved``, the trainings that a pruned cell did not get are not pending.
    """
    pruned = {} if halved is None else halved.pruned
    own, others = list[TrialResult](), list[TrialResult]()
    sources, planned = study.sources, _planned(study)
    for result in trials:
        (own if _belongs(result.trial, study, data, sources, planned) else others).append(result)
    due = [t for t in own if t.state != "pending" or t.trial.variant not in pruned]
    by_network: dict[Network, list[TrialResult]] = {}
    for result in sorted(due, key=lambda t: t.trial.seed):
        by_network.setdefault((result.trial.variant, result.trial.recipe), []).append(result)
    added = tuple(
        Cell(v.by_name, "exact", v, v.cost())
        for v, recipe in by_network
        if v and (v, recipe) not in planned
    )
    cells = (*study.cells, *added)
    rows = tuple(
        CellResult(
            i, cell, label,
            tuple(by_network.get((v, study.recipe_of(cell.settings)), ())) if v else (),
            pruned.get(v, "") if v else "",
        )
        for i, (cell, label) in enumerate(zip(cells, _labels(cells), strict=True))
        for v in [cell.variant]
    )  # fmt: skip
    notes = halved.notes if halved else ()
    return Results(name, study, data, request, rows, tuple(others), notes)


def _planned(study: Study) -> set[Network]:
    """Return the network and the recipe of every cell."""
    return {(cell.variant, study.recipe_of(cell.settings)) for cell in study.cells}


def _belongs(
    trial: Trial, study: Study, data: Data, sources: Mapping[str, str], planned: set[Network]
) -> bool:
    same_data = trial.data.fingerprint == data.fingerprint
    same_source = not has_other_source(trial.variant, sources)
    same_recipe = trial.recipe == study.recipe or (trial.variant, trial.recipe) in planned
    return same_recipe and trial.task == study.task and same_data and same_source


def _labels(cells: tuple[Cell, ...]) -> list[str]:
    """Return a name per network."""
    naming = Naming.of((cell.variant, cell.settings) for cell in cells)
    return [_label(cell, naming) for cell in cells]


def _label(cell: Cell, naming: Naming) -> str:
    variant = cell.variant
    if variant is None:
        return ", ".join(f"{k} {v}" for k, v in cell.requested.items())
    return naming.name(variant.label, variant, cell.settings)
