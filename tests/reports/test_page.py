"""The page: the summary first, everything escaped, nothing loaded, every cell included."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from archsearch.reports.context import Context
from archsearch.reports.page import page as page_of
from archsearch.reports.phrases import mean_note
from archsearch.reports.report import compute_report
from archsearch.reports.run_details import training_setup
from archsearch.reports.summary import Summary, summarize
from archsearch.results import Results, assemble
from tests.golden import (
    DATA,
    HOSTILE,
    VERSIONS,
    complete,
    failed,
    golden_results,
    grid_study,
    scale_results,
    uneven_results,
)


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"] and data.strip():
            self.text.append(" ".join(data.split()))

    @property
    def visible_text(self) -> str:
        return " ".join(self.text)


def page(results: list[Results], metric: str | None = None) -> str:
    return page_of(compute_report(results, metric))


def summary_of(results: Results, metric: str | None = None) -> Summary:
    return summarize(Context.of(results, metric))


@pytest.fixture(scope="module")
def grid() -> Results:
    return golden_results()


@pytest.fixture(scope="module")
def html(grid: Results) -> str:
    return page([grid])


def test_the_summary_is_before_any_figure_or_table(html: str, grid: Results) -> None:
    summary = summary_of(grid)
    read = Page(html)
    headline = read.text.index(" ".join(summary.headline.split()))
    first_figure = html.index("<svg")
    assert html.index('class="headline"') < first_figure < html.index("<table")
    assert headline < 12
    assert " ".join(summary.confidence.split()) in read.visible_text


def test_it_runs_no_script_and_loads_nothing(html: str) -> None:
    read = Page(html)
    policy = dict(read.attributes).get("http-equiv")
    assert policy == "Content-Security-Policy"
    assert "default-src 'none'" in html
    assert not {"script", "iframe", "link", "object", "embed", "base"} & set(read.tags)
    assert not [n for n, _ in read.attributes if n.startswith("on")]
    links = [v for n, v in read.attributes if n in ("href", "src", "xlink:href")]
    assert all(v.startswith(("#", "data:")) for v in links)
    assert "url(" not in re.sub(r"url\(#", "", html)
    assert "@import" not in html


def test_ids_are_unique_with_several_runs(grid: Results) -> None:
    ids = [v for n, v in Page(page([grid, scale_results()])).attributes if n == "id"]
    assert len(ids) == len(set(ids))
    assert ids


def test_every_reference_in_the_page_has_its_target(html: str) -> None:
    read = Page(html)
    ids = {v for n, v in read.attributes if n == "id"}
    used = set(re.findall(r"url\(#([^)]+)\)", html))
    used |= {v[1:] for n, v in read.attributes if n == "xlink:href" and v.startswith("#")}
    assert used <= ids


def test_hostile_names_are_text_everywhere() -> None:
    hostile = page([golden_results(2, hostile=True)])
    read = Page(hostile)
    assert "script" not in read.tags
    text = " ".join(HOSTILE.split())
    assert read.visible_text.count(text) >= 4  # question, table, reason, error
    assert "<script>" not in hostile


def test_every_cell_has_folded_details(html: str, grid: Results) -> None:
    read = Page(html)
    assert read.tags.count("summary") == len(grid.cells) + 5
    for trial in grid.trials:
        assert trial.trial.id in html
        if trial.record and trial.record.error:
            assert trial.record.error in read.visible_text


def test_it_has_the_training_setup(html: str, grid: Results) -> None:
    text = Page(html).visible_text
    assert "archsearch grid --budget 30M --seeds 5 --out runs/grid" in text
    for part in ("0123456789ab", "torch 2.13.0", "cpu (2 threads)", grid.data.fingerprint):
        assert part in text
    assert "label smoothing 0.1" in text


def test_the_notes_of_the_ranking_are_on_the_page(html: str, grid: Results) -> None:
    notes = grid.compare().ranking.notes
    text = Page(html).visible_text
    assert notes
    assert "Notes on the ranking" in text
    assert all(note in text for note in notes)
    assert "Notes on the ranking" not in Page(page([scale_results()])).visible_text


def test_adjusted_means_are_explained_under_heatmap_and_table() -> None:
    results = uneven_results()
    text = Page(page([results])).visible_text
    assert text.count(mean_note(Context.of(results))) == 2
    assert "each at 97.52%" in text


def test_added_seeds_are_listed_beside_the_planned_ones() -> None:
    assert dict(training_setup(golden_results()))["Seeds"] == "0, 1, 2, 3 and 4"
    seeds = dict(training_setup(uneven_results()))["Seeds"]
    assert (
        seeds
        == "0, 1, 2, 3 and 4; planned: 0 and 1, for networks that may be the best up to 5 each"
    )
    empty = assemble("empty", grid_study(3), DATA, {}, ())
    assert dict(training_setup(empty))["Seeds"] == "0, 1 and 2"


def test_every_version_and_commit_of_the_run_is_listed() -> None:
    results = scale_results()
    first, *rest = results.cells[0].trials
    assert first.record is not None
    later = {**VERSIONS, "torch": "2.13.1", "commit": "fedcba987654"}
    moved = replace(first, record=replace(first.record, versions=later))
    cells = (replace(results.cells[0], trials=(moved, *rest)), *results.cells[1:])
    values = dict(training_setup(replace(results, cells=cells, _compared={})))
    assert values["Commit"] == "0123456789ab; fedcba987654"
    assert values["Versions"] == "archsearch 0.1.0, python 3.11.7, torch 2.13.0 and 2.13.1"


def test_a_part_of_the_data_is_printed_as_a_part(grid: Results) -> None:
    assert "golden" not in dict(training_setup(grid))["Data"]
    assert dict(training_setup(grid))["Data"].startswith("digits: 1,078 training, 359 validation")
    recipe = replace(grid.study.recipe, data_fraction=0.12)
    less = replace(grid, study=replace(grid.study, recipe=recipe))
    assert dict(training_setup(less))["Data"].startswith(
        "digits: 0.12 of 1,078 training, 359 validation"
    )


@pytest.mark.parametrize("number", [3, 40])
def test_other_trainings_are_listed_and_folded_if_there_are_many(number: int) -> None:
    results = scale_results()
    recipe = replace(results.study.recipe, name="cheap rung", epochs=1)
    trial = results.trials[0].trial
    others = tuple(complete(replace(trial, recipe=recipe, seed=i), 80.0) for i in range(number))
    html = page([replace(results, others=others)])
    text = Page(html).visible_text
    assert text.count("cheap rung") == number
    assert text.count("Trainings with another recipe or data") == 1
    folded = f"Trainings with another recipe or data: {number}"
    assert (folded in text) == (number > 12)
    fold = html.rfind("<details", 0, html.index("cheap rung"))
    assert (html[fold:].find("</details>") > html[fold:].find("cheap rung")) == (number > 12)


def test_it_is_small(html: str) -> None:
    assert len(html.encode()) < 400_000


def test_the_page_supports_light_dark_print_and_phone(html: str) -> None:
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert 'name="viewport"' in html
    shapes = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    assert "#1b1f1d" not in shapes  # neutral colors follow the theme
    assert "var(--ink)" in shapes


def test_several_runs_are_side_by_side(grid: Results) -> None:
    text = Page(page([grid, replace(golden_results(3), name="again")])).visible_text
    assert "2 runs side by side" in text
    assert "Same data, recipe and metric: results of different runs are comparable." in text
    assert "Networks in several runs" in text
    different = Page(page([grid, scale_results()])).visible_text
    assert "The runs differ in recipe: their results are not comparable." in different
    assert "Networks in several runs" not in different


def test_a_clear_winner_is_called_best() -> None:
    results = scale_results(5)
    cells = []
    for i, cell in enumerate(results.cells):
        values = [90.0 + 2 * i + 0.01 * ((t.trial.seed * (i + 2)) % 5) for t in cell.trials]
        trials = tuple(complete(t.trial, v) for t, v in zip(cell.trials, values, strict=True))
        cells.append(replace(cell, trials=trials))
    summary = summary_of(replace(results, cells=tuple(cells), _compared={}))
    assert summary.headline.startswith("(96, 16, 5, 30) is best, with 98.0")
    assert summary.confidence.startswith("Each of the other 4 networks is significantly worse")


def test_a_tie_is_called_a_tie_and_the_cheapest_is_named() -> None:
    summary = summary_of(golden_results(5, spread=1.5))
    assert "is tied for best, with the highest mean validation accuracy, " in summary.headline
    assert "other networks are statistically tied with it" in summary.confidence
    assert (
        "Of the tied networks, (80, 16, 4, 4) has the fewest multiply-adds, 4.26 G."
        in summary.confidence
    )


def test_without_any_significant_difference_all_networks_are_tied() -> None:
    summary = summary_of(scale_results())
    assert summary.headline.startswith(
        "All networks are tied. (128, 16, 4, 18) has the highest mean"
    )
    assert summary.confidence.startswith(
        "None of the 5 networks is significantly worse than the best"
    )


def test_one_seed_has_no_best_network() -> None:
    summary = summary_of(golden_results(1))
    assert summary.headline.startswith("The cells cannot be ranked.")
    assert "One seed per cell cannot rank" in summary.confidence
    assert "±" not in summary.headline


def test_seeds_without_noise_are_not_reported_as_one_seed() -> None:
    results = scale_results(3)
    cells = tuple(
        replace(c, trials=tuple(complete(t.trial, 95.0 + c.index) for t in c.trials))
        for c in results.cells
    )
    summary = summary_of(replace(results, cells=cells, _compared={}))
    assert "One seed" not in summary.confidence
    assert summary.confidence


def test_the_summary_of_an_empty_run(grid: Results) -> None:
    cells = tuple(replace(c, trials=()) for c in grid.cells)
    summary = summary_of(replace(grid, cells=cells, _compared={}))
    assert summary.headline == "No training has finished yet."
    assert page([replace(grid, cells=cells, _compared={})])


def test_a_metric_that_was_not_measured_is_not_a_failure(grid: Results) -> None:
    summary = summary_of(grid, "throughput")
    assert summary.headline == "No training has a value for throughput."
    (caveat,) = (c for c in summary.caveats if "not in the ranking" in c)
    assert "20 without a value for throughput" in caveat
    assert "1 diverged on some seeds" in caveat
    text = Page(page([grid], "throughput")).visible_text
    assert "No cell has a value." in text
    assert "over 0 seeds" not in text


def test_the_notes_of_a_halving_are_caveats(grid: Results) -> None:
    halved = replace(grid, notes=("2 epochs may prune: tau 0.8", "cost 12 full trainings"))
    caveats = summary_of(halved).caveats
    assert "Halving: 2 epochs may prune: tau 0.8; cost 12 full trainings." in caveats


def test_only_diverged_networks_are_reported_as_diverged() -> None:
    """One network has no seed in common with the others."""
    results = scale_results()
    first, *others = results.cells
    alone = replace(first, trials=tuple(
        complete(replace(t.trial, seed=t.trial.seed + 9), 97.0) for t in first.trials
    ))  # fmt: skip
    unlinked = replace(results, cells=(alone, *others), _compared={})
    caveats = " ".join(summary_of(unlinked).caveats)
    assert "1 cell not in the ranking: 1 without a seed in common with the others." in caveats
    assert "diverged" not in caveats


def test_the_summary_of_a_run_in_which_everything_failed() -> None:
    results = scale_results(1)
    cells = tuple(replace(c, trials=tuple(failed(t.trial) for t in c.trials))
                  for c in results.cells)  # fmt: skip
    summary = summary_of(replace(results, cells=cells, _compared={}))
    assert summary.headline == "None of the 5 finished trainings has a result."


def test_caveats_are_about_sizes_unranked_cells_and_repairs(grid: Results) -> None:
    caveats = " ".join(summary_of(grid).caveats)
    assert "part of a difference may be due to size" in caveats
    assert "1 diverged on some seeds" in caveats
    assert "8 repaired and 3 infeasible" in caveats
    assert "359 images: one image is 0.28 points" in caveats
