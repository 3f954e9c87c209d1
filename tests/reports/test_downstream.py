"""Classification against the fine-tuned task: the verdict, tau, and the numbers beside."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from archsearch.core.cell import Cell
from archsearch.core.recipes import QUICK
from archsearch.core.start import Start
from archsearch.families.internimage import Variant
from archsearch.reports.cell_order import reported_interval
from archsearch.reports.context import Context
from archsearch.reports.downstream import DOWNSTREAM, downstream_figure, transfer_text
from archsearch.reports.paper import PAPER
from archsearch.reports.summary import summarize
from archsearch.results import Results, TrialResult, assemble
from archsearch.results.transfer import transfer_of
from archsearch.study import Record, Study
from archsearch.tasks.detection import Detection
from archsearch.tasks.segmentation import Segmentation
from tests.golden import DATA

Values = Mapping[int, tuple[float, ...]]
"""L3 of a network -> its value by seed; an empty tuple for a training that diverged."""

CLEAR = {1: (50.0, 50.1), 2: (60.0, 60.2), 3: (70.0, 70.1), 4: (80.0, 80.2)}
"""Four networks that differ by far more than their noise."""


def results_of(study: Study, metric: str, values: Values) -> Results:
    """A run whose networks have these values."""
    trials = []
    for trial in study.trials(DATA):
        of_seeds = values[trial.variant.by_name["l3"]]
        metrics = {metric: of_seeds[trial.seed]} if of_seeds else {}
        record = Record(trial.id, "complete" if of_seeds else "diverged", metrics)
        trials.append(TrialResult(trial, record.status, record))
    return assemble(study.name, study, DATA, {"command": ["archsearch"]}, tuple(trials))


def fine_tuned(first: Values, second: Values, num_starts: int = 2) -> Results:
    """A run of UperNet on the networks of a run of classification."""
    variants = {l3: Variant(8, 8, 1, l3) for l3 in first}
    cells = tuple(Cell({"l3": n}, "exact", v, v.cost()) for n, v in variants.items())
    classified = Study("grid", "?", "tests", cells, QUICK, seeds=(0, 1))
    starts = [Start("run", "a", seed, str(seed) * 64) for seed in range(num_starts)]
    started = tuple(
        replace(cell, starts={str(s.seed): s for s in starts})
        for cell, l3 in zip(cells, variants, strict=True)
        if l3 in second
    )
    task = Segmentation(width=8)
    tuned = Study("downstream", "?", "tests", started, QUICK, seeds=(0, 1), task=task)
    results = results_of(tuned, "val_miou", second)
    return replace(results, classification=results_of(classified, "val_accuracy", first))


def context(first: Values, second: Values, num_starts: int = 2) -> Context:
    return Context.of(fine_tuned(first, second, num_starts))


def test_the_winner_is_the_winner_if_both_rankings_have_it_alone_at_the_top() -> None:
    text = transfer_text(context(CLEAR, CLEAR))
    assert text.startswith("The classification winner, (8, 8, 1, 4), is the downstream winner")
    assert "tau between the two orders is 1.00 (" in text
    assert "without the noise of seeds it is 1.00 (p = " in text


def test_the_winner_is_not_if_no_candidate_of_one_ranking_is_one_of_the_other() -> None:
    upside_down = dict(zip(CLEAR, reversed(CLEAR.values()), strict=True))
    text = transfer_text(context(CLEAR, upside_down))
    assert (
        "The classification winner is not the downstream winner: (8, 8, 1, 4) is significantly "
        "worse there than (8, 8, 1, 1)"
    ) in text
    assert "orders is -1.00" in text
    two = {**CLEAR, 3: (80.1, 80.0)}
    text = transfer_text(context(two, upside_down))
    assert "(8, 8, 1, 4) and (8, 8, 1, 3) are significantly worse" in text


def test_nothing_is_shown_if_one_ranking_is_uncertain() -> None:
    noisy = {1: (70.0, 80.0), 2: (79.0, 71.0), 3: (74.0, 77.0), 4: (76.0, 75.0)}
    close = {**CLEAR, 3: (80.1, 79.9)}  # the same best network as in CLEAR, tied with another
    for pair in ((CLEAR, noisy), (noisy, CLEAR), (CLEAR, close), (close, CLEAR)):
        compared = transfer_of(fine_tuned(*pair))
        assert compared is not None
        assert compared.verdict == "unknown"
    text = transfer_text(context(CLEAR, noisy))
    assert "cannot be shown to be the downstream winner, nor not to be" in text
    assert "by classification (8, 8, 1, 4) may be the best, downstream" in text
    assert "and 1 other." in text


def test_one_seed_shows_nothing_and_says_why() -> None:
    results = fine_tuned(CLEAR, CLEAR)
    cells = tuple(replace(c, trials=c.trials[:1]) for c in results.cells)
    one = replace(results, cells=cells, _compared={})
    text = transfer_text(Context.of(one))
    assert "nor not to be: downstream, cannot rank: with one seed per cell" in text


def test_networks_that_diverged_or_were_not_fine_tuned_are_named_and_not_compared() -> None:
    chosen = {1: (), 3: CLEAR[3], 4: CLEAR[4]}
    shown = context(CLEAR, chosen, num_starts=1)
    compared = transfer_of(shown.results)
    assert compared is not None
    assert compared.labels == ("(8, 8, 1, 3)", "(8, 8, 1, 4)")
    assert (compared.num_others, compared.num_shared) == (1, 3)
    table = DOWNSTREAM.content(shown).table
    assert table is not None
    assert "1 network of the classification run is not fine-tuned" in table.note
    assert "In 3 cells several seeds start from the same weights" in table.note
    assert [row[0] for row in table.body] == ["(8, 8, 1, 4)", "(8, 8, 1, 3)", "(8, 8, 1, 1)"]
    assert table.rows[0]["classification"] == pytest.approx(80.1)


def test_the_figure_has_a_point_per_network_with_both_intervals() -> None:
    figure = downstream_figure(context(CLEAR, {**CLEAR, 2: ()}))
    (ax,) = figure.axes
    lines = [line.get_xydata() for line in ax.lines]
    assert len(lines) == 3 * 3
    points = [line[0].tolist() for line in lines if len(line) == 1]
    assert points == [[pytest.approx(v)] * 2 for v in (50.05, 70.05, 80.1)]


def test_another_run_has_no_such_card() -> None:
    other = Context.of(replace(fine_tuned(CLEAR, CLEAR), classification=None))
    assert DOWNSTREAM.skip_reason(other)
    assert transfer_text(other) == ""
    assert "downstream" not in summarize(other).confidence
    shown = context(CLEAR, CLEAR)
    assert DOWNSTREAM.skip_reason(shown) is None
    assert transfer_text(shown) in summarize(shown).confidence


def test_the_ablation_has_both_precisions_beside_those_of_table_6() -> None:
    """Section 4.4 prints 43.8 box AP and 40.0 mask AP for one group."""
    results = fine_tuned(CLEAR, CLEAR)
    cell = replace(results.study.cells[0], paper={"box AP": 43.8, "mask AP": 40.0})
    study = replace(
        results.study,
        cells=(cell,),
        reports=("paper",),
        task=Detection(width=8),
        metric="val_box_ap",
    )
    trials = []
    for trial in study.trials(DATA):
        metrics = {"val_box_ap": 20.0 + trial.seed, "val_mask_ap": 10.0 + trial.seed}
        record = Record(trial.id, "complete", metrics)
        trials.append(TrialResult(trial, "complete", record))
    ablation = assemble("ablation", study, DATA, {}, tuple(trials))
    card = PAPER.content(Context.of(ablation))
    assert card.title == "downstream: ours beside the paper, Table 6"
    assert card.table is not None
    shown = dict(zip(card.table.header, card.table.body[0], strict=True))
    assert shown["Validation box AP (%), ours"].startswith("20.5")
    assert shown["Validation mask AP (%), ours"].startswith("10.5")
    assert (shown["box AP, paper"], shown["mask AP, paper"]) == ("43.8", "40.0")
    assert "Mask R-CNN with InternImage-T on COCO, 12 epochs, one training each" in card.table.note


def test_the_interval_of_the_best_segmenter_is_over_seeds_alone() -> None:
    """The mIoU is no share of images: the split of 287 images would widen +-0.7 by six points."""
    summary = summarize(context(CLEAR, CLEAR))
    (cell,) = (c for c in context(CLEAR, CLEAR).cells if c.label == "(8, 8, 1, 4)")
    shown = reported_interval(cell, context(CLEAR, CLEAR).comparison)
    assert shown is not None
    assert f"with 80.1 ± {shown.half_width:.1f}% validation mIoU" in summary.headline
    assert not [text for text in summary.caveats if "one image is" in text]
