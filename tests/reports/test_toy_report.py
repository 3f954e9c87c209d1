"""A user's card is on the page, in the files and in the numbers, removed and verified, without any
other edit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from archsearch.reports.cards import CARDS
from archsearch.reports.formats import WRITERS
from archsearch.reports.provenance import Verification, verify
from archsearch.reports.render import is_report_file, render_all, render_results
from archsearch.results import Results
from tests.golden import scale_results, write_run
from tests.reports.toy_report import TOY

CARDS_AND_TOY = (*CARDS, TOY)
FILES = {f"toy.{suffix}" for suffix in (*WRITERS, "png", "svg")}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(scale_results(2), tmp_path_factory.mktemp("runs") / "scale")
    render_all([folder], folder / "reports", cards=CARDS_AND_TOY)
    return folder


def without_trials(results: Results) -> Results:
    cells = tuple(replace(c, trials=()) for c in results.cells)
    return replace(results, cells=cells, _compared={})


def test_table_and_figure_are_on_the_page_in_the_files_and_in_the_numbers(run: Path) -> None:
    out = run / "reports"
    html = (out / "report.html").read_text()
    assert "<figcaption>Trainings of scale</figcaption>" in html
    assert 'aria-label="Trainings of scale"' in html
    assert '<p class="note">A bar per cell.</p>' in html
    assert "<caption>Trainings of scale</caption>" in html
    assert {path.name for path in out.glob("toy.*")} == FILES
    assert (out / "toy.csv").read_text().startswith("network,trainings\n")
    (numbers,) = json.loads((out / "numbers.json").read_text())["runs"]
    assert numbers["tables"]["toy"]["header"] == ["Network", "Trainings"]
    assert [row[1] for row in numbers["tables"]["toy"]["body"]] == ["2"] * 5


def test_a_change_of_its_files_is_reported(run: Path) -> None:
    assert verify(run, cards=CARDS_AND_TOY) == Verification(())
    csv, svg = run / "reports/toy.csv", run / "reports/toy.svg"
    texts = csv.read_text(), svg.read_text()
    csv.write_text(texts[0].replace(",2\n", ",3\n", 1))
    svg.unlink()
    lines = verify(run, cards=CARDS_AND_TOY).differences
    assert [line.partition(" ")[0] for line in lines] == ["toy.svg", "toy.csv:"]
    csv.write_text(texts[0])
    svg.write_text(texts[1])
    unexpected = {f"{name} does not follow from the records" for name in FILES}
    assert unexpected <= set(verify(run).differences)  # without the card


def test_the_next_report_removes_its_files(tmp_path: Path) -> None:
    full, folders = scale_results(2), [tmp_path / "run"]
    report = render_results([full], folders, tmp_path / "out", cards=CARDS_AND_TOY)
    assert set(report.files) >= FILES
    (tmp_path / "out/toy.txt").write_text("by the user")
    report = render_results([without_trials(full)], folders, tmp_path / "out", cards=CARDS_AND_TOY)
    assert report.runs[0].skipped["toy"] == "no training was planned"
    assert {path.name for path in (tmp_path / "out").glob("toy.*")} == {"toy.txt"}


@pytest.mark.parametrize("name", ["results", "report"])
def test_a_name_that_exists_is_refused(name: str, tmp_path: Path) -> None:
    cards = (*CARDS, replace(TOY, name=name))
    with pytest.raises(ValueError, match=f"different names, got twice: {name}"):
        render_results([scale_results(1)], [tmp_path / "run"], tmp_path / "out", cards=cards)
    assert not (tmp_path / "out").exists()


def test_other_reports_do_not_have_its_files() -> None:
    assert all(is_report_file(name, CARDS_AND_TOY) for name in FILES)
    assert not any(map(is_report_file, FILES))
