"""Tables in four formats: full precision for programs, escaped text for people."""

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from archsearch.core.plans import Search
from archsearch.families.internimage import FreeVariant
from archsearch.reports.context import Context
from archsearch.reports.formats import Table, as_csv, as_html, as_latex, as_markdown
from archsearch.reports.paper import TABLE_C, family_table, recipe_table, table_c
from archsearch.reports.results_table import results_table
from archsearch.reports.trade_off import pareto_table
from archsearch.results import Results, TrialResult, assemble
from archsearch.study import Trial
from internimage.config import PRESETS
from tests.golden import (
    DATA,
    HOSTILE,
    complete,
    golden_results,
    grid_study,
    ladder_results,
    scale_results,
)


@pytest.fixture(scope="module")
def grid() -> Results:
    return golden_results()


def column(content: Table, name: str) -> list[str]:
    return [row[content.header.index(name)] for row in content.body]


def test_the_grid_is_listed_best_first_and_keeps_every_cell(grid: Results) -> None:
    content = results_table(Context.of(grid))
    values = column(content, "Validation accuracy (%)")
    numbers = [float(v.split(" ")[0]) for v in values if v != "–"]
    assert len(values) == 30
    *ranked, survivor = numbers
    assert ranked == sorted(ranked, reverse=True)
    assert (
        survivor > ranked[-1]
    )  # a network that diverged on a seed is last, whatever its other seeds are
    assert column(content, "Rank")[len(ranked)] == "not ranked"
    assert values[len(numbers) :] == ["–"] * (30 - len(numbers))
    assert content.marks.count("best") == 1
    assert content.marks.count("missing") == 30 - len(numbers)


def test_lowest_first_where_lower_is_better(grid: Results) -> None:
    values = column(results_table(Context.of(grid, "val_error")), "Validation error (%)")
    numbers = [float(v.split(" ")[0]) for v in values if v != "–"]
    assert numbers[:-1] == sorted(numbers[:-1])
    assert values[len(numbers) :] == ["–"] * (30 - len(numbers))


def test_the_rank_is_best_tied_significantly_worse_or_not_ranked(grid: Results) -> None:
    content = results_table(Context.of(grid))
    ranks = column(content, "Rank")
    tied = len(grid.compare().ranking.tied)
    assert (ranks.count("best"), ranks.count("tied with best")) == (1, tied - 1)
    assert ranks.count("not ranked") == 1  # diverged on one seed
    assert set(column(results_table(Context.of(golden_results(1))), "Rank")) == {
        "",
        "not ranked",
    }


def test_remarks_give_every_reason(grid: Results) -> None:
    remarks = column(results_table(Context.of(grid)), "Remarks")
    assert sum(r.startswith("infeasible: ") for r in remarks) == 3
    assert sum("repaired: rule 2" in r for r in remarks) == 8
    assert "complete, 1 of 5 seeds diverged" in remarks


def test_csv_holds_full_precision_in_plan_order(grid: Results) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(results_table(Context.of(grid))))))
    assert [int(r["cell"]) for r in rows] == list(range(1, 31))
    for row, cell in zip(rows, grid.cells, strict=True):
        estimate = grid.compare().estimates[cell.index]
        shown = row["val_accuracy_mean"]
        assert (shown == "") == (estimate is None)
        if estimate is not None:
            assert float(shown) == pytest.approx(estimate.mean, abs=1e-6)
            ranked = grid.compare().ranking.means.get(cell.label)
            assert row["ranking_mean"] == ("" if ranked is None else str(round(ranked, 6)))
            assert row["params"] == str(cell.cell.cost.params if cell.cell.cost else "")


def test_a_cell_without_the_metric_is_not_measured(grid: Results) -> None:
    remarks = column(results_table(Context.of(grid, "throughput")), "Remarks")
    repaired = [r for r in remarks if r.startswith("not measured; repaired: ")]
    finished = [c for c in grid.cells if c.state == "complete" and not c.trials_without_result]
    assert remarks.count("not measured") + len(repaired) == len(finished)
    assert "complete, 1 of 5 seeds failed; not measured" in remarks
    assert not any("not measured" in r for r in column(results_table(Context.of(grid)), "Remarks"))


def test_networks_without_four_numbers_are_named() -> None:
    variants = [
        FreeVariant((16, 32, 64, 128 + 16 * i), (1, 2, 4, 8 + i), (1, 1, 2, 1)) for i in range(3)
    ]
    study = grid_study(1, cells=(), axes=None)
    trials = tuple(complete(Trial(v, study.recipe, DATA, 0), 90.0 + i)
                   for i, v in enumerate(variants))  # fmt: skip
    content = results_table(Context.of(assemble("search", study, DATA, {}, trials)))
    assert column(content, "Network") == [v.name for v in reversed(variants)]
    assert "L₃" not in content.header
    assert "Network" not in results_table(Context.of(golden_results(1))).header


def hostile_table() -> Table:
    columns = {HOSTILE: [HOSTILE, "=1+1"], "n": ["1.0", "–"]}
    return Table.of(columns, [{"a": "=1+1"}], title=HOSTILE, name="x")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t", "\r"])
def test_csv_text_cannot_become_a_formula(start: str) -> None:
    content = Table.of({"a": ["1"]}, [{"a": f"{start}cmd()", "b": -1.5}], name="x")
    row = next(csv.DictReader(io.StringIO(as_csv(content), newline="")))
    assert row["a"] == f"'{start}cmd()".replace("\r", "\n")
    assert row["b"] == "-1.5"


def test_markdown_keeps_its_columns_and_shows_markup_as_text() -> None:
    lines = as_markdown(hostile_table()).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}
    assert not any("<script>" in line for line in lines)
    assert r"\$\\foo\$" in rows[0]


def test_latex_leaves_no_command_and_no_open_maths() -> None:
    tex = as_latex(hostile_table())
    assert r"\foo" not in tex.replace(r"\textbackslash{}foo", "")
    assert r"\$\textbackslash{}foo\$" in tex
    assert r"\textless{}script\textgreater{}" in tex
    assert tex.count(r"\toprule") == tex.count(r"\bottomrule") == 1


def test_latex_has_the_papers_symbols(grid: Results) -> None:
    tex = as_latex(results_table(Context.of(grid)))
    assert "C$_1$ & C$'$ & L$_1$" in tex
    assert r"$\pm$" in tex
    assert all(ord(sign) < 128 for sign in tex)


class Cells(HTMLParser):
    """The text of every cell, and every tag seen."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        del attrs
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_html_shows_markup_as_text() -> None:
    parser = Cells()
    parser.feed(as_html(hostile_table()))
    assert "script" not in parser.tags
    assert parser.text.count(HOSTILE) == 3  # caption, header, cell


def test_numbers_are_aligned_right_and_texts_left() -> None:
    columns = {"a": ["97.4 ± 0.3", "–"], "b": ["30M", "1.08B"], "c": ["best", ""], "d": ["2.0 G"]}
    assert [Table.of({k: v}, []).numeric[0] for k, v in columns.items()] == [
        True, True, False, True,
    ]  # fmt: skip


def test_table_c_has_our_figures_beside_the_papers_in_separate_columns() -> None:
    content = table_c(Context.of(scale_results()))
    assert column(content, "#parameters, paper") == ["118M", "95M", "97M", "105M", "95M"]
    assert column(content, "#parameters, ours") == ["117.8M", "95.1M", "97.5M", "104.5M", "94.9M"]
    assert column(content, "top-1 (%), paper") == ["84.5", "83.8", "84.9", "83.1", "81.8"]
    ours = column(content, "Validation accuracy (%), ours")
    assert all("±" in value for value in ours)
    assert "Only the order within the two columns is comparable" in content.note


def test_table_c_has_the_growth_after_rounding() -> None:
    """A stored ladder of an earlier version has none: the origin at phi = 0 gives it."""
    run = ladder_results()
    stored = [cell.cell.growth for cell in run.cells]
    older = replace(
        run,
        cells=tuple(replace(c, cell=replace(c.cell, growth=None)) for c in run.cells),
        _compared={},
    )
    for one in (run, older):
        table = table_c(Context.of(one))
        assert [row["growth"] for row in table.rows] == stored
        assert column(table, "Growth per φ (nominal 2)")[1:3] == ["1.673", "1.869"]


def test_a_grid_has_no_table_c(grid: Results) -> None:
    assert TABLE_C.skip_reason(Context.of(grid)) == "no cell has scaling factors"


def test_table_1_counts_the_family_to_the_digit() -> None:
    content = family_table(Context.of(golden_results(1)))
    for name, preset in PRESETS.items():
        rows = [row for row in content.rows if row["model"] == f"InternImage-{name}"]
        assert {row["params"] for row in rows} == {preset.params}
        assert {row["params_paper"] for row in rows} == {preset.printed_params}
    assert "4.89 G" in column(content, "MACs, ours")


def test_table_b_is_beside_the_recipe_of_the_run(grid: Results) -> None:
    content = recipe_table(Context.of(grid))
    row = next(r for r in content.body if r[0] == "lr")
    assert row[content.header.index("T")] == "0.004"
    assert row[1] == "0.001"


def test_the_pareto_front_has_every_network_that_is_not_dominated(grid: Results) -> None:
    rows = pareto_table(Context.of(scale_results())).rows
    on_front = {r["network"] for r in rows if r["front"] == "params"}
    rows_of_all = scale_results().rows()
    for row in rows_of_all:
        dominated = any(
            o["params"] < row["params"] and o["val_accuracy_mean"] >= row["val_accuracy_mean"]
            for o in rows_of_all
        )
        assert (row["network"] in on_front) == (not dominated)
    assert pareto_table(Context.of(grid)).body


def test_a_search_over_speed_has_a_front_against_speed() -> None:
    """More throughput is better: a network that is better in both objectives dominates."""
    plan = Search("four", {}, "tpe", ("val_accuracy", "throughput"), 0, 1, 0.05)
    study = replace(grid_study(1), cells=(), plan=plan)
    trials: list[TrialResult] = []
    for trial, accuracy, speed in zip(
        grid_study(1).trials(DATA), (95.0, 96.0, 94.0), (50.0, 40.0, 45.0), strict=False
    ):
        record = complete(trial, accuracy).record
        assert record is not None
        metrics = {**record.metrics, "images_per_second": speed}
        trials.append(TrialResult(trial, "complete", replace(record, metrics=metrics)))
    content = pareto_table(Context.of(assemble("search", study, DATA, {}, tuple(trials))))
    fronts = zip(
        column(content, "Front against"), column(content, "Throughput (images/s)"), strict=True
    )
    assert [speed for front, speed in fronts if front == "throughput"] == ["40.0", "50.0"]
