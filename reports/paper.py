"""The paper's own figures beside a run's, in columns apart: for studies that name this report."""

from collections.abc import Sequence

from archsearch.core.metrics import METRICS
from archsearch.reports.formats import Table, table
from archsearch.reports.phrases import compared_words, estimate_text
from archsearch.reports.style import symbol
from archsearch.results import CellResult, Results

MISSING = "–"
UNITS = {"accuracy": "top-1 (%)"}


def paper_table(results: Results, metric: str | None = None) -> Table | None:
    """A row per cell in plan order: what it costs, what it gave, what the paper prints for it."""
    if "paper" not in results.study.reports:
        return None
    compared = results.compare(metric)
    cells = results.cells
    asked = list(dict.fromkeys(name for c in cells for name in c.cell.asked))
    printed = list(dict.fromkeys(name for c in cells for name in c.cell.paper))
    columns = {symbol(a): [str(c.cell.asked.get(a, MISSING)) for c in cells] for a in asked}
    for name in ("params", "macs"):
        by = METRICS[name]
        columns[f"{by.axis}, ours"] = [by.text(c.counted(by)) for c in cells]
    columns[f"{compared.metric.axis}, ours"] = [estimate_text(c, compared) for c in cells]
    measured = {
        "Step (ms), ours": [_number(step_ms(c), 1) for c in cells],
        "Peak memory (GB), ours": [_number(mean(c, "memory"), 2) for c in cells],
    }
    columns |= {head: values for head, values in measured.items() if {*values} != {MISSING}}
    for name in printed:
        head = f"{UNITS.get(name, name)}, paper"
        columns[head] = [str(c.cell.paper.get(name, MISSING)) for c in cells]
    rows = [
        row | {"step_ms": step_ms(c)} | {f"paper_{k}": v for k, v in c.cell.paper.items()}
        for row, c in zip(results.rows(), cells, strict=True)
    ]
    title = f"{results.study.name}: ours beside the paper, {results.study.source}"
    note = " ".join(filter(None, (_note(results, cells), compared_words(results, compared))))
    return table("paper", title, columns, rows, note=note)


def _note(results: Results, cells: Sequence[CellResult]) -> str:
    recipe, data = results.study.recipe, results.data.name
    step = (
        f", a step of {recipe.batch_size} images at {recipe.image_size}²"
        if any(step_ms(c) for c in cells)
        else ", no step, as there is no whole batch of images to time,"
    )
    return (
        f"Ours: the network of this run, on {data}, recipe {recipe.name}, {recipe.epochs} epochs; "
        f"parameters and multiply-adds as the paper counts (1000 classes at 224²){step} and the "
        "peak of the whole process as measured. The paper's: InternImage-T on ImageNet-1K, 300 "
        "epochs, one training each. The columns are not comparable, only their order is."
    )


def mean(cell: CellResult, name: str) -> float | None:
    """Mean of a metric over the seeds, in its unit; None when it was not measured."""
    estimate = cell.estimate(METRICS[name])
    return None if estimate is None else estimate.mean


def step_ms(cell: CellResult) -> float | None:
    """Milliseconds for an optimizer step, from the images a second of whole batches."""
    rate = mean(cell, "throughput")
    return 1000 * cell.trials[0].trial.recipe.batch_size / rate if rate else None


def _number(value: float | None, digits: int) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"
