"""Synthetic runs with every fate and every final state, for the tests of the reports.

Accuracies are drawn around a true value, so that tests can compare a report with it.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from archsearch.core.budget import Budget
from archsearch.core.cell import Cell
from archsearch.core.plans import MoreSeeds
from archsearch.core.recipe import Recipe
from archsearch.core.recipes import QUICK
from archsearch.core.task import Data
from archsearch.families.internimage import SCALED_ORIGIN, Variant
from archsearch.families.internimage_cost import count
from archsearch.families.internimage_space import SPACES
from archsearch.results import Results, TrialResult, assemble
from archsearch.searching.adaptive_plan import drive
from archsearch.searching.adaptive_seeds import more_seeds
from archsearch.space.grid import plan
from archsearch.space.scaling import ladder
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record, Study, Trial

DATA = Data("digits", "golden", 10, 1, 1078, 359, 360, "scikit-learn digits")
COMMAND = ["archsearch", "grid", "--budget", "30M", "--seeds", "5", "--out", "runs/grid"]
VERSIONS = {"archsearch": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "commit": "0123456789ab"}
HOSTILE = "<script>alert(1)</script> $\\foo$ =cmd()|'\"&_%"


def truth(variant: Variant) -> float:
    """Return the accuracy without noise: C' = 16 above 32, best at L1 = 4, wider is better."""
    width = {48: -1.2, 64: -0.3, 80: 0.0}.get(variant.c1, 0.1)
    depth = -0.35 * abs(variant.l1 - 4)
    return 97.2 + width + depth - (0.9 if variant.group_channels == 32 else 0.0)


def grid_study(seeds: int = 5, **changes: Any) -> Study:
    study = Study(
        name="grid",
        question="Which stacking of a 30M InternImage is best?",
        source="Section 3.2; supplement C.1, Fig. A",
        cells=plan(SPACES["main"], Budget.parse("30M")),
        recipe=replace(QUICK, epochs=6, lr=1e-3),
        seeds=tuple(range(seeds)),
        axes=("group_channels", "l1", "c1"),
        budget=Budget.parse("30M"),
    )
    return replace(study, **changes)


def curve(final: float, epochs: int) -> tuple[Mapping[str, Any], ...]:
    rise = 1 - 0.86 * np.exp(-1.2 * np.arange(1, epochs + 1))
    return tuple(
        {
            "epoch": i + 1,
            "epochs": epochs,
            "train_loss": round(2.4 - 1.7 * float(r), 4),
            "val_accuracy": round(final * float(r) / float(rise[-1]), 3),
            "lr": 1e-3,
            "seconds": 9.5,
        }
        for i, r in enumerate(rise)
    )


def complete(trial: Trial, accuracy: float) -> TrialResult:
    record = Record(
        trial.id,
        "complete",
        {
            "val_accuracy": round(accuracy, 3),
            "test_accuracy": round(accuracy - 0.4, 3),
            "val_loss": round(0.6 - accuracy / 200, 4),
            "train_loss": 0.71,
        },
        curve(round(accuracy, 3), trial.recipe.epochs),
        trial.variant.cost(32, num_classes=10),
        seconds=57.0 + trial.seed,
        device="cpu (2 threads)",
        versions=VERSIONS,
    )
    return TrialResult(trial, "complete", record, record.curve)


def diverged(trial: Trial) -> TrialResult:
    epochs = curve(60.0, trial.recipe.epochs)[:2]
    record = Record(
        trial.id, "diverged", {}, epochs, error="loss became nan in epoch 3", seconds=21.0
    )
    return TrialResult(trial, "diverged", record, epochs)


def failed(trial: Trial, error: str = "requested 9.1 GiB, 3.2 GiB free") -> TrialResult:
    record = Record(
        trial.id, "failed", {}, (), kind="out-of-memory", error=error, seconds=3.0, attempts=3
    )
    return TrialResult(trial, "failed", record)


def golden_results(seeds: int = 5, spread: float = 0.25, hostile: bool = False) -> Results:
    """Return the main grid with exact, repaired and infeasible cells.

    One cell failed, one diverged on every seed and one on one seed; one is running, one interrupted
    and one pending.
    """
    study = grid_study(seeds)
    if hostile:
        cells = tuple(replace(c, reason=c.reason and f"{c.reason} {HOSTILE}") for c in study.cells)
        study = replace(study, question=HOSTILE, name=HOSTILE, cells=cells)
    trials = study.trials(DATA)
    rng = np.random.default_rng(7)
    shared = rng.normal(0, 0.3, seeds)
    results = tuple(
        _ending(t, truth(t.variant) + shared[t.seed] + rng.normal(0, spread), hostile)
        for t in trials
        if isinstance(t.variant, Variant)
    )
    request = {
        "command": [*COMMAND, HOSTILE] if hostile else COMMAND,
        "created": "2025-03-01T09:30:00Z",
        "versions": VERSIONS,
    }
    return assemble("grid-30m", study, DATA, request, results)


def uneven_results() -> Results:
    """Return a complete run with ``--seeds auto`` and C' = 16.

    Only cells that may be the best have seeds 3 and 4, which are hard for all cells, so that plain
    means rank worse cells above the best.
    """
    study = grid_study(2, cells=grid_study().cells[:15], plan=MoreSeeds(5))
    noise, records, results = np.random.default_rng(11), dict[str, Record](), list[TrialResult]()

    def run(trials: tuple[Trial, ...]) -> None:
        for trial in trials:
            assert isinstance(trial.variant, Variant)
            hard = 3.0 if trial.seed > 2 else 0.0
            results.append(complete(trial, truth(trial.variant) - hard + noise.normal(0, 0.15)))
            record = results[-1].record
            assert record is not None
            records[trial.id] = record

    drive(more_seeds(study, DATA, 5), records.get, run)
    return assemble("uneven", study, DATA, {"command": COMMAND}, tuple(results))


def _ending(trial: Trial, accuracy: float, hostile: bool) -> TrialResult:
    numbers = trial.variant.numbers[:3] if isinstance(trial.variant, Variant) else None
    if numbers == (48, 16, 1):
        return failed(trial, HOSTILE) if hostile else failed(trial)
    if numbers == (48, 16, 2) or (numbers == (48, 16, 3) and trial.seed == 1):
        return diverged(trial)
    if numbers == (64, 16, 1) and trial.seed == 0:
        return failed(trial)
    if numbers == (64, 32, 5):
        half = curve(80.0, trial.recipe.epochs)[:3]
        return TrialResult(trial, "running" if trial.seed == 0 else "pending", None, half)
    if numbers == (80, 16, 1):
        return TrialResult(trial, "interrupted", None, curve(80.0, trial.recipe.epochs)[:1])
    if numbers == (80, 16, 2):
        return TrialResult(trial, "pending")
    return complete(trial, accuracy)


def scale_results(seeds: int = 3) -> Results:
    """Return Table C's five pairs, as recovered, with synthetic accuracies."""
    rows = [
        (1.03, 1.40, (128, 16, 4, 18), "118M", 84.5),
        (1.06, 1.38, (112, 16, 4, 20), "95M", 83.8),
        (1.09, 1.36, (112, 16, 4, 21), "97M", 84.9),
        (1.12, 1.34, (112, 16, 4, 24), "105M", 83.1),
        (1.15, 1.32, (96, 16, 5, 30), "95M", 81.8),
    ]
    cells = tuple(
        _scale_cell(alpha, beta, Variant(*n, norm="post", layer_scale=1e-5), params, accuracy)
        for alpha, beta, n, params, accuracy in rows
    )
    recipe: Recipe = replace(QUICK, epochs=4, lr=1e-3)
    question = "Which (alpha, beta) scales a 30M InternImage best?"
    study = Study(
        "scale",
        question,
        "Table C",
        cells,
        recipe,
        seeds=tuple(range(seeds)),
        budget=Budget.parse("100M"),
    )
    rng = np.random.default_rng(3)
    results = tuple(
        complete(t, 96.0 + 0.02 * t.variant.by_name["c1"] / 16 + rng.normal(0, 0.2))
        for t in study.trials(DATA)
    )
    request = {"command": ["archsearch", "scale"], "created": "2025-03-02T10:00:00Z"}
    return assemble("scale-100m", study, DATA, {**request, "versions": VERSIONS}, results)


def _scale_cell(alpha: float, beta: float, variant: Variant, params: str, accuracy: float) -> Cell:
    requested = {"alpha": alpha, "beta": beta, "phi": 2}
    cost = count(variant.config())
    paper = {"params": params, "accuracy": accuracy}
    return Cell(requested, "exact", variant, cost, paper=paper)


def write_run(results: Results, folder: Path) -> Path:
    """Write a run as files, as a real run does; running trials are interrupted there."""
    run = StudyFolder(folder).create(results.study, results.data, results.request["command"])
    for result in (*results.trials, *results.others):
        trial = run.trial(result.trial.id)
        trial.write_spec(result.trial)
        for event in result.curve:
            trial.append_event(event)
        if result.record is not None:
            trial.write_record(result.record)
    return folder


def ladder_results(alpha: float = 1.09, beta: float = 1.36, exponent: float = 0.3) -> Results:
    """Return phi = 0 to 3 of one pair with three seeds; the largest model is not trained yet."""
    cells = ladder(SCALED_ORIGIN, alpha, beta, Budget.parse("250M"))
    study = replace(scale_results(1).study, name="ladder", cells=cells, seeds=(0, 1, 2))
    rng = np.random.default_rng(int(1000 * alpha))
    results = []
    for trial in study.trials(DATA):
        size = trial.variant.cost().params / 30e6
        error = 6.0 * size**-exponent * float(np.exp(rng.normal(0, 0.02)))
        last = trial.variant == cells[-1].variant
        results.append(TrialResult(trial, "pending") if last else complete(trial, 100 - error))
    request = {"command": ["archsearch", "scale"], "versions": VERSIONS}
    return assemble(f"ladder-{alpha}", study, DATA, request, tuple(results))
