"""Published reports follow from their records, which are of the requested networks."""

import csv
import re
from pathlib import Path

import pytest

from archsearch.reports.provenance import verify
from archsearch.results import load
from archsearch.tasks.classification import CLASSIFICATION

RESULTS = Path(__file__).parents[2] / "studies/results"
RUNS = sorted(path.parent for path in RESULTS.glob("*/study.json"))
PLACES = re.compile(r"[\"' =]/(home|root|tmp)/")
"""Absolute paths of a machine."""
WITHOUT_CHECKSUMS = ("grid-2.2M-cifar10", "ladder-cifar10", "table-c-cifar10")
"""Runs that an earlier version wrote."""


def test_there_are_results() -> None:
    assert len(RUNS) >= 3


@pytest.mark.parametrize("run", RUNS, ids=lambda path: path.name)
def test_a_published_report_is_verified(run: Path) -> None:
    result = verify(run)
    assert result.differences == ()
    if run.name in WITHOUT_CHECKSUMS:
        assert "stored files have no checksum, because an earlier version wrote" in result.note


@pytest.mark.parametrize("run", RUNS, ids=lambda path: path.name)
def test_a_published_run_is_small_and_has_no_paths_of_a_machine(run: Path) -> None:
    files = [path for path in run.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pt", ".safetensors", ".log")]
    assert sum(path.stat().st_size for path in files) < 5_000_000
    texts = [p for p in files if p.suffix in (".json", ".jsonl", ".md", ".html", ".csv")]
    assert not [p for p in texts if PLACES.search(p.read_text())]


@pytest.mark.parametrize("run", RUNS, ids=lambda path: path.name)
def test_every_training_has_the_requested_network(run: Path) -> None:
    """A record has the counts of the trained module, a cell those of the closed form."""
    results = load(run)
    if results.study.task != CLASSIFICATION:
        pytest.skip("records count the head of the task too, cells a classifier")
    for cell in results.cells:
        for trial in cell.trials:
            if trial.record is not None and trial.record.cost is not None:
                assert cell.cell.cost is not None
                assert trial.record.cost.params < cell.cell.cost.params  # ten classes, not 1000


def test_the_findings_name_how_sure_the_front_is() -> None:
    """`report --verify` holds the table to the records, and this test the text to the table."""
    with (RESULTS / "table-c-cifar10/reports/pareto.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["front"] == "params"]
    shares = sorted((round(float(row["on_front_percent"])) for row in rows), reverse=True)
    assert shares[0] == 100  # the smallest network
    others = [f"{share}%" for share in shares[1:]]
    text = f"{', '.join(others[:-1])} and {others[-1]} of resampled studies"
    assert text in " ".join((RESULTS.parents[1] / "docs/findings.md").read_text().split())
