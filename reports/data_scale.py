"""Accuracy against the share of the training set, as Table H: several runs, one per share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from archsearch.results import CellResult, Comparison, Results
from reports import style
from reports.formats import Table, table, write
from reports.words import estimate_text

COMPARED: dict[str, dict[float, str]] = {
    "ResNet-50": {0.01: "12.2", 0.1: "57.5", 1.0: "80.4"},
    "ConvNeXt-T": {0.01: "8.4", 0.1: "52.6", 1.0: "82.1"},
    "Swin-T": {0.01: "failed", 0.1: "12.1", 1.0: "81.3"},
}
"""Table H's networks of others -> share -> ImageNet-1K top-1 in percent: the paper's alone."""


def runs_by_share(results: Sequence[Results]) -> dict[float, Results]:
    """The runs that are parts of a data-scale study, by their share, the smallest first."""
    mine = {r.study.recipe.data_fraction: r for r in results if "data-scale" in r.study.reports}
    return dict(sorted(mine.items()))


def data_scale_table(results: Sequence[Results], metric: str | None = None) -> Table | None:
    """A row per network, a column per share: ours, then the paper's; None without two shares."""
    runs = runs_by_share(results)
    if len(runs) < 2:
        return None
    compared = {share: run.compare(metric) for share, run in runs.items()}
    networks = _networks(runs)
    columns = {"Core operator or network": [*networks, *COMPARED]}
    for share in runs:
        ours = [_ours(cells.get(share), compared[share]) for cells in networks.values()]
        title = f"{share:.0%}: {compared[share].metric.axis}, ours"
        columns[title] = [*ours, *("–" for _ in COMPARED)]
    for share in runs:
        ours_there = [_paper(cells.get(share)) for cells in networks.values()]
        theirs = [by_share.get(share, "–") for by_share in COMPARED.values()]
        columns[f"{share:.0%}: top-1 (%), paper"] = [*ours_there, *theirs]
    return table("data-scale", "Data scale, as Table H", columns, _rows(runs), note=_note(runs))


def _networks(runs: dict[float, Results]) -> dict[str, dict[float, CellResult]]:
    """Operator -> share -> cell."""
    found: dict[str, dict[float, CellResult]] = {}
    for share, run in runs.items():
        for cell in run.cells:
            found.setdefault(str(cell.cell.asked.get("operator", cell.label)), {})[share] = cell
    return found


def _ours(cell: CellResult | None, compared: Comparison) -> str:
    return "–" if cell is None else estimate_text(cell, compared)


def _paper(cell: CellResult | None) -> str:
    return str(cell.cell.paper.get("accuracy", "–")) if cell else "–"


def _rows(runs: dict[float, Results]) -> list[dict[str, Any]]:
    return [
        {"share": share} | row | {f"paper_{k}": v for k, v in cell.cell.paper.items()}
        for share, run in runs.items()
        for row, cell in zip(run.rows(), run.cells, strict=True)
    ]


def _note(runs: dict[float, Results]) -> str:
    one = next(iter(runs.values()))
    images = ", ".join(f"{share:.0%} {num_images(run):,}" for share, run in runs.items())
    return (
        f"Ours: {one.data.name}, {one.study.recipe.epochs} epochs; training images, about: "
        f"{images}. Shares are stratified and nested, and measured on the same images; the epochs "
        "stay, so fewer images are fewer steps too. The paper's: ImageNet-1K, 300 epochs, one "
        "training each."
    )


def num_images(run: Results) -> int:
    """Training images at the run's share, which is taken of each class: exact to a few images."""
    share, classes = run.study.recipe.data_fraction, run.data.num_classes
    images = share * run.data.num_train
    few = images < 5 * classes  # where rounding a class to whole images shows
    return classes * max(1, round(images / classes)) if few else round(images)


def data_scale_figure(results: Sequence[Results], metric: str | None = None) -> Figure | None:
    """The metric against the number of training images, a line per operator; ours only."""
    runs = runs_by_share(results)
    if len(runs) < 2:
        return None
    compared = {share: run.compare(metric) for share, run in runs.items()}
    axis = next(iter(compared.values())).metric.axis
    fig, ax = style.axes_with_title("Training images, log scale", axis)
    ax.set_xscale("log")
    for i, (name, cells) in enumerate(_networks(runs).items()):
        found = [
            (num_images(runs[s]), e)
            for s, c in cells.items()
            if (e := c.estimate(compared[s].metric))
        ]
        x, means = [n for n, _ in found], [e.mean for _, e in found]
        ax.plot(x, means, "o", linestyle=style.DASHES[i % 4], color=style.LINES[i], label=name)
        for n, e in found:
            if e.low is not None and e.high is not None:
                ax.plot([n, n], [e.low, e.high], color=style.LINES[i], linewidth=0.8, alpha=0.6)
    ax.set_xticks([num_images(r) for r in runs.values()])
    ax.set_xticklabels([f"{num_images(r):,} ({s:.0%})" for s, r in runs.items()])
    ax.get_xticklabels()[-1].set_horizontalalignment(
        "right"
    )  # the largest stands at the picture's edge
    ax.minorticks_off()
    if axis.endswith("(%)"):  # an interval over few seeds may leave what is possible
        low, high = ax.get_ylim()
        ax.set_ylim(max(low, -2.0), min(high, 102.0))
    style.legend_inside(ax, "", "lower right")
    return fig


def render(results: Sequence[Results], out_dir: Path, metric: str | None = None) -> list[Path]:
    """Write table and picture into ``out_dir``; nothing for runs that are no data-scale study."""
    content = data_scale_table(results, metric)
    if content is None:
        return []
    with style.styled():
        figure = data_scale_figure(results, metric)
        assert figure is not None
        return [*write(content, out_dir), *style.save(figure, out_dir, "data-scale")]
