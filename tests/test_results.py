"""Rows from records: no cell is hidden and no number is invented."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as sps

from archsearch.core.plans import Halve
from archsearch.families.internimage import Variant
from archsearch.results import CellResult, Results, assemble, load
from archsearch.searching.adaptive_plan import drive
from archsearch.searching.plans import halving_of
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record, Trial
from archsearch.tasks.classification import CLASSIFICATION
from tests.golden import (
    COMMAND,
    DATA,
    complete,
    golden_results,
    grid_study,
    scale_results,
    write_run,
)

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def grid() -> Results:
    return golden_results()


def at(results: Results, c1: int, group_channels: int, l1: int) -> CellResult:
    requested = {"c1": c1, "group_channels": group_channels, "l1": l1}
    return next(c for c in results.cells if c.cell.requested == requested)


def test_every_cell_of_the_plan_keeps_its_position(grid: Results) -> None:
    assert [c.cell for c in grid.cells] == list(grid.study.cells)
    assert len(grid.rows()) == 30


@pytest.mark.parametrize(
    ("numbers", "state", "text"),
    [
        ((64, 16, 4), "complete", "complete"),
        ((80, 16, 5), "infeasible", "infeasible"),
        ((48, 16, 1), "failed", "failed: out-of-memory"),
        ((48, 16, 2), "diverged", "diverged"),
        ((48, 16, 3), "complete", "complete, 1 of 5 seeds diverged"),
        ((64, 16, 1), "complete", "complete, 1 of 5 seeds failed"),
        ((64, 32, 5), "running", "running"),
        ((80, 16, 1), "interrupted", "interrupted"),
        ((80, 16, 2), "pending", "pending"),
    ],
)
def test_state_of_a_cell(
    grid: Results, numbers: tuple[int, int, int], state: str, text: str
) -> None:
    cell = at(grid, *numbers)
    assert (cell.state, cell.status_text) == (state, text)


def test_a_missing_number_is_none_and_never_zero(grid: Results) -> None:
    for row, cell in zip(grid.rows(), grid.cells, strict=True):
        if cell.state != "complete":
            assert row["val_accuracy_mean"] is None
            assert row["val_accuracy_n"] == 0
    infeasible = grid.rows()[at(grid, 80, 16, 5).index]
    assert infeasible["params"] is None
    assert infeasible["l3"] is None


def test_a_failed_training_has_no_value(grid: Results) -> None:
    lost = at(grid, 48, 16, 1).trials[0]
    assert lost.record is not None
    assert lost.record.seconds > 0
    assert lost.value(CLASSIFICATION.all_metrics()["seconds"]) is None


def test_the_estimate_is_the_students_interval_over_seeds(grid: Results) -> None:
    cell = at(grid, 64, 16, 4)
    values = [t.record.metrics["val_accuracy"] for t in cell.trials if t.record]
    low, high = sps.t.interval(0.95, 4, np.mean(values), sps.sem(values))
    estimate = cell.estimate(CLASSIFICATION.all_metrics()["val_accuracy"])
    assert estimate is not None
    assert (estimate.mean, estimate.n) == (pytest.approx(np.mean(values)), 5)
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))


def test_a_row_has_the_intervals_that_reports_print(grid: Results) -> None:
    estimates, rows = grid.compare().estimates, grid.rows()
    assert len([e for e in estimates if e]) > 10
    for estimate, row in zip(estimates, rows, strict=True):
        low, high = (estimate.low, estimate.high) if estimate else (None, None)
        assert row["val_accuracy_low"] == (low if low is None else round(low, 6))
        assert row["val_accuracy_high"] == (high if high is None else round(high, 6))


def test_errors_and_costs_are_in_the_unit_of_their_metric(grid: Results) -> None:
    cell = at(grid, 64, 16, 4)
    trial = cell.trials[0]
    accuracy = trial.value(CLASSIFICATION.all_metrics()["val_accuracy"])
    assert accuracy is not None
    assert trial.value(CLASSIFICATION.all_metrics()["val_error"]) == pytest.approx(100 - accuracy)
    assert cell.cost_value(CLASSIFICATION.all_metrics()["params"]) == pytest.approx(29.918424)
    trained = cell.cost_value(CLASSIFICATION.all_metrics()["trained_params"])
    assert trained is not None
    assert trained < 29.918424  # ten classes instead of 1000


def test_cells_repaired_to_one_network_share_its_trainings(grid: Results) -> None:
    repaired, exact = at(grid, 48, 32, 4), at(grid, 64, 32, 4)
    assert repaired.cell.fate == "repaired"
    assert repaired.changes() == {"c1": (48, 64)}
    assert repaired.trials == exact.trials
    assert repaired.label == exact.label
    assert grid.network(repaired.label) == exact


def test_a_network_that_diverged_on_a_seed_is_not_ranked(grid: Results) -> None:
    compared = grid.compare()
    survivor = at(grid, 48, 16, 3)
    assert compared.estimates[survivor.index] is not None
    assert survivor.label not in compared.ranking.means
    assert (
        at(grid, 64, 16, 1).label in compared.ranking.means
    )  # one seed failed, which does not depend on the network


def test_the_ranking_recovers_the_synthetic_truth(grid: Results) -> None:
    ranking = grid.compare().ranking
    assert ranking.can_rank
    assert at(grid, 80, 16, 4).label in ranking.tied
    assert at(grid, 64, 32, 1).label not in ranking.tied
    worst = grid.compare("val_error").ranking
    assert set(worst.tied) == set(ranking.tied)


def test_one_seed_cannot_rank() -> None:
    ranking = golden_results(1).compare().ranking
    assert not ranking.can_rank
    assert "one seed" in ranking.reason


def test_counts_are_ordered_without_noise(grid: Results) -> None:
    ranking = grid.compare("params").ranking
    assert ranking.can_rank
    smallest = min(c.cell.cost.params for c in grid.cells if c.cell.cost)
    assert ranking.means[str(ranking.best)] == pytest.approx(smallest / 1e6)


def test_extra_seeds_count_and_other_trainings_are_separate() -> None:
    study = grid_study(2)
    variant = Variant(64, 16, 4, 18)
    extra = complete(Trial(variant, study.recipe, DATA, 7), 97.0)
    other = complete(Trial(variant, replace(study.recipe, epochs=9), DATA, 0), 12.0)
    unplanned = complete(Trial(Variant(64, 16, 4, 19), study.recipe, DATA, 0), 96.0)
    results = assemble("x", study, DATA, {"command": COMMAND}, (extra, other, unplanned))
    assert [t.trial.seed for t in at(results, 64, 16, 4).trials] == [7]
    assert results.others == (other,)
    assert [c.label for c in results.cells[30:]] == ["(64, 16, 4, 19)"]
    assert len(results.seed_rows()) == 3


def test_switches_are_named_only_where_they_differ() -> None:
    assert {c.label for c in scale_results().cells} >= {"(112, 16, 4, 21)"}
    study = grid_study(1)
    cells = tuple(
        replace(study.cells[7], variant=Variant(64, 16, 4, 18, kernel_size=k)) for k in (3, 5)
    )
    results = assemble("k", replace(study, cells=cells), DATA, {}, ())
    assert [c.label for c in results.cells] == [
        "(64, 16, 4, 18) kernel_size=3",
        "(64, 16, 4, 18) kernel_size=5",
    ]


def test_a_run_reads_back_from_its_folder(tmp_path: Path) -> None:
    written = golden_results(2)
    read = load(write_run(written, tmp_path / "grid-30m"))
    assert read.name == "grid-30m"
    assert read.study == written.study
    assert read.compare().estimates == written.compare().estimates
    assert at(read, 48, 16, 1).status_text == "failed: out-of-memory"
    assert at(read, 64, 32, 5).state == "interrupted"  # no process holds its lock
    assert [len(t.curve) for t in at(read, 64, 32, 5).trials] == [3, 3]


def test_a_folder_without_a_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no study"):
        load(tmp_path)


def test_the_error_for_an_unknown_metric_lists_the_known_ones(grid: Results) -> None:
    with pytest.raises(ValueError, match=r"'speed'; known: val_accuracy, "):
        grid.compare("speed")
    assert CLASSIFICATION.metric("macs").axis == "Multiply-adds (G)"


def test_the_frame_has_a_row_per_cell(grid: Results) -> None:
    frame = grid.frame()
    assert len(frame) == 30
    assert frame["val_accuracy_mean"].notna().sum() == sum(
        e is not None for e in grid.compare().estimates
    )


def test_reading_and_drawing_need_no_torch(tmp_path: Path) -> None:
    write_run(golden_results(1), tmp_path / "run")
    code = (
        "import sys; from archsearch.reports.render import render_all; "
        f"render_all([{str(tmp_path / 'run')!r}], {str(tmp_path / 'out')!r}); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_pruned_cells_say_so_and_no_training_is_pending(tmp_path: Path) -> None:
    """Deeper is better at every rung, so the pilot lets the rungs prune."""
    study = grid_study(2, plan=Halve("epochs", force=False))
    folder = StudyFolder(tmp_path / "run").create(study, DATA)
    trained: list[Trial] = []

    def run(trials: tuple[Trial, ...]) -> None:
        for trial in trials:
            trained.append(trial)
            folder.trial(trial.id).write_spec(trial)
            value = 20.0 + trial.variant.depth + trial.seed / 10
            record = Record(trial.id, "complete", {"val_accuracy": value}, seconds=1.0)
            folder.trial(trial.id).write_record(record)

    unfinished = load(tmp_path / "run")
    assert (unfinished.notes, {c.state for c in unfinished.cells}) == (
        (),
        {"pending", "infeasible"},
    )
    outcome = drive(halving_of(study, DATA), lambda i: folder.trial(i).record(), run)
    assert outcome is not None
    assert outcome.pruned

    results = load(tmp_path / "run")
    assert results.notes == outcome.notes
    assert {t.state for t in results.trials} == {"complete"}
    assert len(results.trials) + len(results.others) == len(trained)
    never_in_full = [c for c in results.cells if c.state == "pruned"]
    assert {c.cell.variant for c in never_in_full} == set(outcome.pruned) - set(outcome.finalists)
    assert never_in_full[0].status_text == f"pruned after {never_in_full[0].pruned}"
    in_pilot = [c for c in results.cells if c.pruned and c.state == "complete"]
    assert in_pilot
    assert in_pilot[0].status_text == f"complete, pruned after {in_pilot[0].pruned}"
    assert results.compare().ranking.best == results.cells[0].label  # the deepest


def test_metrics_are_read_from_records_and_from_epochs() -> None:
    record = Record("a" * 16, "complete", {"val_accuracy": 97.0, "peak_memory_bytes": 2e9})
    assert CLASSIFICATION.metric("val_error").value_of(record) == 3.0
    assert CLASSIFICATION.metric("memory").value_of(record) == 2.0
    assert CLASSIFICATION.metric("seconds").value_of(replace(record, seconds=5.0)) == 5.0
    assert CLASSIFICATION.metric("trained_params").value_of(record) is None
    assert CLASSIFICATION.metric("params").value_of(record) is None
    assert (
        CLASSIFICATION.metric("val_accuracy").value_of(replace(record, status="diverged")) is None
    )
    assert CLASSIFICATION.metric("val_error").value_in({"epoch": 1, "val_accuracy": 90.0}) == 10.0
    seconds = CLASSIFICATION.metric("seconds")
    assert seconds.value_in({"seconds": 9.0}) is None  # an epoch's seconds are not a trial's
    val_loss = CLASSIFICATION.metric("val_loss")
    assert val_loss.merit(2.0) < val_loss.merit(1.0)
