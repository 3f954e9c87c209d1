"""One page: the answer first, everything escaped, nothing loaded, nothing left out."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from archsearch.results import Results
from reports.answer import answer
from reports.page import page
from tests.golden import HOSTILE, complete, golden_results, scale_results


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
    def words(self) -> str:
        return " ".join(self.text)


@pytest.fixture(scope="module")
def grid() -> Results:
    return golden_results()


@pytest.fixture(scope="module")
def html(grid: Results) -> str:
    return page([grid])


def test_the_answer_stands_before_any_picture_or_table(html: str, grid: Results) -> None:
    told = answer(grid)
    read = Page(html)
    headline = read.text.index(" ".join(told.headline.split()))
    first_picture = html.index("<svg")
    assert html.index('class="headline"') < first_picture < html.index("<table")
    assert headline < 12
    assert " ".join(told.sure.split()) in read.words


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


def test_every_reference_inside_the_page_has_its_target(html: str) -> None:
    read = Page(html)
    ids = {v for n, v in read.attributes if n == "id"}
    used = set(re.findall(r"url\(#([^)]+)\)", html))
    used |= {v[1:] for n, v in read.attributes if n == "xlink:href" and v.startswith("#")}
    assert used <= ids


def test_hostile_names_are_text_everywhere() -> None:
    hostile = page([golden_results(2, hostile=True)])
    read = Page(hostile)
    assert "script" not in read.tags
    words = " ".join(HOSTILE.split())
    assert read.words.count(words) >= 4  # question, table, reason, error
    assert "<script>" not in hostile


def test_every_cell_has_its_record_folded(html: str, grid: Results) -> None:
    read = Page(html)
    assert read.tags.count("summary") == len(grid.cells) + 3
    for trial in grid.trials:
        assert trial.trial.id in html
        if trial.record and trial.record.error:
            assert trial.record.error in read.words


def test_it_says_how_it_was_made(html: str, grid: Results) -> None:
    words = Page(html).words
    assert "archsearch grid --budget 30M --seeds 5 --out runs/grid" in words
    for told in ("0123456789ab", "torch 2.13.0", "cpu (2 threads)", grid.data.fingerprint):
        assert told in words
    assert "label smoothing 0.1" in words


def test_it_is_small(html: str) -> None:
    assert len(html.encode()) < 400_000


def test_light_dark_print_and_phone_are_provided_for(html: str) -> None:
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert 'name="viewport"' in html
    shapes = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    assert "#1b1f1d" not in shapes  # neutral colours follow the theme
    assert "var(--ink)" in shapes


def test_several_runs_stand_side_by_side(grid: Results) -> None:
    words = Page(page([grid, replace(golden_results(3), name="again")])).words
    assert "2 runs side by side" in words
    assert "Same data, recipe and metric: results of different runs compare." in words
    assert "Networks in more than one run" in words
    unlike = Page(page([grid, scale_results()])).words
    assert "The runs differ in recipe: their results do not compare." in unlike
    assert "Networks in more than one run" not in unlike


def test_a_clear_winner_is_called_best() -> None:
    results = scale_results(5)
    cells = []
    for i, cell in enumerate(results.cells):
        values = [90.0 + 2 * i + 0.01 * ((t.trial.seed * (i + 2)) % 5) for t in cell.trials]
        trials = tuple(complete(t.trial, v) for t, v in zip(cell.trials, values, strict=True))
        cells.append(replace(cell, trials=trials))
    told = answer(replace(results, cells=tuple(cells), _compared={}))
    assert told.headline.startswith("(96, 16, 5, 30) is best, with 98.0")
    assert told.sure.startswith("Each of the other 4 networks is shown to be worse")


def test_a_tie_is_called_a_tie_and_the_cheapest_is_named() -> None:
    told = answer(golden_results(5, spread=1.5))
    assert told.headline.endswith("but not alone.")
    assert "other networks cannot be told from it" in told.sure
    assert "The cheapest of them is (80, 16, 4, 4), 4.26 G multiply-adds." in told.sure


def test_where_nothing_can_be_told_apart_nothing_stands_out() -> None:
    told = answer(scale_results())
    assert told.headline.startswith("No network stands out. (128, 16, 4, 18) has the highest mean")
    assert told.sure.startswith("None of the 5 networks is shown to be worse than the best")


def test_one_seed_names_no_winner() -> None:
    told = answer(golden_results(1))
    assert told.headline.startswith("No cell can be called best.")
    assert "One seed per cell cannot rank" in told.sure
    assert "±" not in told.headline


def test_seeds_without_any_noise_are_not_taken_for_one_seed() -> None:
    results = scale_results(3)
    cells = tuple(
        replace(c, trials=tuple(complete(t.trial, 95.0 + c.index) for t in c.trials))
        for c in results.cells
    )
    told = answer(replace(results, cells=cells, _compared={}))
    assert "One seed" not in told.sure
    assert told.sure


def test_an_empty_run_says_so(grid: Results) -> None:
    cells = tuple(replace(c, trials=()) for c in grid.cells)
    told = answer(replace(grid, cells=cells, _compared={}))
    assert told.headline == "No training has finished yet."
    assert page([replace(grid, cells=cells, _compared={})])


def test_caveats_tell_of_sizes_lost_cells_and_repairs(grid: Results) -> None:
    told = " ".join(answer(grid).caveats)
    assert "part of a difference may be size" in told
    assert "1 diverged on some seeds" in told
    assert "8 repaired and 3 infeasible" in told
    assert "359 images: one is 0.28 points" in told
