"""The report of operators: differences to DCNv3, the sentences on them, and the figure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from archsearch.core.plans import MoreSeeds
from archsearch.core.recipes import QUICK
from archsearch.reports.cards import CARDS
from archsearch.reports.context import Context
from archsearch.reports.operators import (
    OPERATORS,
    answer,
    control_comparison,
    operators_figure,
    operators_table,
)
from archsearch.results import TrialResult, assemble
from archsearch.stats.control import compared_with_control
from archsearch.studies import kernel_size, operator_or_frame
from archsearch.study import Record, Study, Trial
from tests.golden import DATA

Name = tuple[str, int]
MEANS: Mapping[Name, float] = {
    ("dcnv3", 3): 97.0, ("deformable-attention", 3): 96.9, ("depthwise", 3): 92.0,
    ("depthwise", 7): 97.1,
}  # fmt: skip
HEADS = ["Operator", "K", "L₃", "Params (M)", "MACs (G)", "Step (ms)", "Validation accuracy (%)",
         "Difference to DCNv3 (points)", "p"]  # fmt: skip


def value(trial: Trial) -> float:
    rng = np.random.default_rng(
        [trial.seed, len(trial.variant.operator), trial.variant.kernel_size]
    )
    name = trial.variant.operator, trial.variant.kernel_size
    return round(MEANS[name] + 0.4 * trial.seed + 0.3 * rng.normal(), 3)


def ended(trial: Trial, status: Any = "complete", test: str = "") -> TrialResult:
    metrics = {"val_accuracy": value(trial), "train_loss": 100 - value(trial)}
    metrics["images_per_second"] = 320.0 if trial.variant.operator == "dcnv3" else 640.0
    if test:
        metrics["test_accuracy"] = metrics[test]
    return TrialResult(trial, status, Record(trial.id, status, metrics, (), seconds=3.0))


def context(
    seeds: int = 5,
    metric: str | None = None,
    keep: Callable[[Trial], bool] = lambda _: True,
    status: Callable[[Trial], str] = lambda _: "complete",
    test: str = "",
    **changes: Any,
) -> Context:
    study: Study = operator_or_frame.study(recipe=QUICK, seeds=tuple(range(seeds)))
    study = replace(study, **changes)
    trials = tuple(ended(t, status(t), test) for t in study.trials(DATA) if keep(t))
    run = assemble("frame", study, DATA, {"command": ["archsearch"]}, trials)
    return Context.of(run, metric)


def test_a_row_per_operator_with_its_difference_to_dcnv3() -> None:
    one = context()
    table = operators_table(one)
    columns = {head: [row[i] for row in table.body] for i, head in enumerate(table.header)}
    assert list(columns) == HEADS
    assert columns["Operator"] == [
        "DCNv3", "deformable attention", "plain convolution", "plain convolution",
    ]  # fmt: skip
    assert columns["K"] == ["3", "3", "3", "7"]
    assert columns["L₃"] == ["4", "4", "8", "7"]
    assert columns["Params (M)"] == ["1.025", "1.017", "1.016", "1.006"]
    assert columns["Step (ms)"] == ["200.0", "100.0", "100.0", "100.0"]
    values = {c.label: dict(c.values(one.metric)) for c in one.cells}
    expected = compared_with_control(values, one.cells[0].label).differences
    assert columns["Difference to DCNv3 (points)"][0] == columns["p"][0] == "–"
    for cell, row, text in zip(one.cells, table.rows, columns[HEADS[-2]], strict=True):
        if cell.index:
            interval = expected[cell.label].interval
            assert text == f"{interval.mean:+.2f} ± {interval.half_width:.2f}"
            assert row["difference"] == pytest.approx(interval.mean, abs=1e-6)
            assert row["difference_low"] == pytest.approx(interval.low, abs=1e-6)
            assert row["difference_p_value"] == pytest.approx(
                expected[cell.label].p_value, abs=1e-6
            )
    assert table.rows[0]["difference"] is None
    assert "Parameters differ from DCNv3's by at most 1.8%, multiply-adds by at most 3.0%" in (
        table.note
    )


def test_the_parts_are_named_with_intervals() -> None:
    text = answer(context())
    operator, frame, other = (
        text.split(". ", 2)[0],
        *text.split("The frame's part")[1].split(". With"),
    )
    assert operator.startswith("The operator's part: without DCNv3 the validation accuracy changes")
    plain = text.partition("The frame's part")[0]
    assert "with 3×3 plain convolution (significantly worse, p < 0.001)" in plain
    assert "with 7×7 plain convolution (not significant with 5 seeds, p =" in plain
    assert "with 3×3 plain convolution and " in frame
    assert frame.endswith("% with 3×3 DCNv3")
    assert "with 3×3 deformable attention (not significant with 5 seeds" in other


def test_differences_on_the_test_split_stand_beside() -> None:
    """The test accuracy is the training loss here, so its differences are the negative ones."""
    assert "On the test split" not in answer(context())
    one = context(test="train_loss")
    table = operators_table(one)
    assert table.header[-1] == "On the test split (points)"
    for row, text in zip(table.rows[1:], [b[-1] for b in table.body][1:], strict=True):
        assert row["test_difference"] == pytest.approx(-row["difference"], abs=1e-6)
        assert text.startswith(f"{row['test_difference']:+.2f} ± ")
    assert f"are {table.body[1][-1]} with 3×3 deformable attention, " in answer(one)


def test_of_a_metric_whose_lower_values_are_better_the_verdicts_are_the_same() -> None:
    text = answer(context(metric="train_loss"))
    assert "the training loss changes by +5.2" in text
    assert "with 3×3 plain convolution (significantly worse" in text


def test_without_differences_the_reason_is_given() -> None:
    single = context(seeds=1)
    assert answer(single).startswith("No differences: cannot compare: with one seed per cell")
    assert len(operators_figure(single).axes) == 1
    assert "Dunnett" not in operators_table(single).note
    counted = answer(context(metric="macs"))
    assert counted == "No differences: the metric is counted and has no noise."
    missing = answer(context(keep=lambda t: t.variant.operator != "dcnv3"))
    assert "the control" in missing
    assert "has no value" in missing


def test_operators_without_a_result_stay_in_the_table() -> None:
    lost = context(keep=lambda t: t.variant.kernel_size != 7)
    assert [row[-1] for row in operators_table(lost).body][3] == "–"
    assert "7×7" not in answer(lost)
    assert len(operators_figure(lost).axes) == 2

    def diverges(trial: Trial) -> str:
        plain = (trial.variant.operator, trial.seed) == ("depthwise", 1)
        return "diverged" if plain else "complete"

    text = answer(context(status=diverges))
    assert "plain convolution" not in text
    assert "With another operator" in text


def test_a_missing_seed_is_named() -> None:
    note = operators_table(context(keep=lambda t: bool(t.seed) or t.variant.kernel_size == 3)).note
    assert "kernel_size=7 operator=depthwise: 4 of 5 seeds have a value." in note


def test_tests_after_every_seed_are_named() -> None:
    assert "--seeds auto" in operators_table(context(plan=MoreSeeds(5))).note
    assert "--seeds auto" not in operators_table(context()).note


def test_the_figure_has_every_seed_and_interval() -> None:
    one = context()
    result, difference = operators_figure(one).axes
    ticks = [line for line in result.lines if line.get_marker() == "|"]
    assert [len(line.get_xdata()) for line in ticks] == [5] * 4  # type: ignore[arg-type]
    points = [line for line in difference.lines if line.get_marker() == "o"]
    means = [d.interval.mean for d in control_comparison(one).differences.values()]
    assert [float(line.get_xdata()[0]) for line in points] == pytest.approx(means)  # type: ignore[index]
    filled = [line.get_markerfacecolor() == line.get_color() for line in points]
    assert filled == [False, True, False]


def test_only_studies_that_name_the_report_have_it() -> None:
    assert OPERATORS in CARDS
    assert OPERATORS.skip_reason(context()) is None
    assert OPERATORS.skip_reason(context(reports=())) is not None
    cells = operator_or_frame.study(recipe=QUICK).cells[1:]
    assert OPERATORS.skip_reason(context(cells=cells)) is not None
    other = replace(kernel_size.study(recipe=QUICK), reports=("operators",))
    run = assemble("other", other, DATA, {}, ())
    assert OPERATORS.skip_reason(Context.of(run)) is not None
