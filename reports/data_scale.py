"""Accuracy against the share of the training set, as Table H: several runs, one per share."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.families.internimage import AnyVariant
from archsearch.reports import style
from archsearch.reports.cell_order import shown
from archsearch.reports.comparable_runs import differences, groups, named
from archsearch.reports.formats import Table, table, write
from archsearch.reports.phrases import estimate_text, listed
from archsearch.results import CellResult, Comparison, Results
from archsearch.stats.intervals import Interval

FREE = "data_fraction"
"""The one field of the recipe that the parts of a data-scale study differ in."""

COMPARED: dict[str, dict[float, str]] = {
    "ResNet-50": {0.01: "12.2", 0.1: "57.5", 1.0: "80.4"},
    "ConvNeXt-T": {0.01: "8.4", 0.1: "52.6", 1.0: "82.1"},
    "Swin-T": {0.01: "failed", 0.1: "12.1", 1.0: "81.3"},
}
"""Table H's networks of others -> share -> ImageNet-1K top-1 in percent: the paper's alone."""

Place = tuple[str, AnyVariant | None]
"""An operator and the network that has it."""


def parts(results: Sequence[Results]) -> dict[str, dict[str, Results]]:
    """The runs that are parts of a data-scale study, in groups that belong together.

    A group has the same data and the same recipe but for the share of the images, and two shares
    or more, the smallest first. Each run is there by name: two of one share stand beside each
    other. Groups are named as their files are: data-scale, data-scale-2, ...
    """
    by_share = [dict(sorted(g.items(), key=_share)) for g in groups(_mine(results), FREE)]
    found = [group for group in by_share if len({*map(_share, group.items())}) > 1]
    return {f"data-scale-{i}" if i > 1 else "data-scale": g for i, g in enumerate(found, 1)}


def _mine(results: Sequence[Results]) -> dict[str, Results]:
    return {n: r for n, r in named(results).items() if "data-scale" in r.study.reports}


def _share(item: tuple[str, Results]) -> float:
    return item[1].study.recipe.data_fraction


def data_scale_tables(results: Sequence[Results], metric: str | None = None) -> list[Table]:
    """A table for each of the `parts`: a row per network, a column per run, then the paper's."""
    return [_table(name, part, results, metric) for name, part in parts(results).items()]


def _table(
    name: str, runs: Mapping[str, Results], results: Sequence[Results], metric: str | None
) -> Table:
    compared, networks = _compared(runs, metric), _networks(runs)
    columns = {"Core operator or network": [*_titles(networks), *COMPARED]}
    for run, title in _columns(runs).items():
        ours = [_ours(cells.get(run), compared[run]) for cells in networks.values()]
        columns[f"{title}: {compared[run].metric.axis}, ours"] = [*ours, *("–" for _ in COMPARED)]
    for share in dict.fromkeys(map(_share, runs.items())):
        there = [n for n, r in runs.items() if r.study.recipe.data_fraction == share]
        ours_there = [_paper([c[n] for n in there if n in c]) for c in networks.values()]
        theirs = [by_share.get(share, "–") for by_share in COMPARED.values()]
        columns[f"{_percent(share)}: top-1 (%), paper"] = [*ours_there, *theirs]
    note = " ".join(filter(None, (_note(runs), _doubles(runs), _others(runs, results))))
    return table(name, "Data scale, as Table H", columns, _rows(runs), note=note)


def _compared(runs: Mapping[str, Results], metric: str | None) -> dict[str, Comparison]:
    """Every run by one metric, the first one's own by default."""
    by = metric or next(iter(runs.values())).study.metric
    return {name: run.compare(by) for name, run in runs.items()}


def _networks(runs: Mapping[str, Results]) -> dict[Place, dict[str, CellResult]]:
    """Operator and network -> name of the run -> cell."""
    found: dict[Place, dict[str, CellResult]] = {}
    for name, run in runs.items():
        for cell in run.cells:
            operator = str(cell.cell.asked.get("operator", cell.label))
            found.setdefault((operator, cell.cell.variant), {})[name] = cell
    return found


def _titles(places: Iterable[Place]) -> list[str]:
    """The operators; with the network where one operator has several."""
    places = list(places)
    operators = [operator for operator, _ in places]
    return [
        f"{operator}, {variant.name}" if variant and operators.count(operator) > 1 else operator
        for operator, variant in places
    ]


def _columns(runs: Mapping[str, Results]) -> dict[str, str]:
    """Name of the run -> its share; with the name where several have that share."""
    shares = [*map(_share, runs.items())]
    told = zip(runs, shares, strict=True)
    return {n: _percent(s) + (f", {n}" if shares.count(s) > 1 else "") for n, s in told}


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _ours(cell: CellResult | None, compared: Comparison) -> str:
    return "–" if cell is None else estimate_text(cell, compared)


def _paper(cells: Sequence[CellResult]) -> str:
    return next((str(c.cell.paper["accuracy"]) for c in cells if "accuracy" in c.cell.paper), "–")


def _rows(runs: Mapping[str, Results]) -> list[dict[str, Any]]:
    return [
        {"share": run.study.recipe.data_fraction, "run": name}
        | row
        | {f"paper_{k}": v for k, v in cell.cell.paper.items()}
        for name, run in runs.items()
        for row, cell in zip(run.rows(), run.cells, strict=True)
    ]


def _note(runs: Mapping[str, Results]) -> str:
    one = next(iter(runs.values()))
    by_share = {run.study.recipe.data_fraction: run for run in runs.values()}
    images = ", ".join(f"{_percent(s)} {num_images(run):,}" for s, run in by_share.items())
    return (
        f"Ours: {one.data.name}, {one.study.recipe.epochs} epochs; training images, about: "
        f"{images}. Shares are stratified and nested, and measured on the same images; the epochs "
        "stay, so fewer images are fewer steps too. The paper's: ImageNet-1K, 300 epochs, one "
        "training each."
    )


def _doubles(runs: Mapping[str, Results]) -> str:
    """That several runs have one share, if they do."""
    names: dict[float, list[str]] = {}
    for item in runs.items():
        names.setdefault(_share(item), []).append(item[0])
    told = [f"{_percent(s)}: {listed(found)}" for s, found in names.items() if len(found) > 1]
    return f"Several runs of one share, a column each: {'; '.join(told)}." if told else ""


def _others(runs: Mapping[str, Results], results: Sequence[Results]) -> str:
    """The data-scale runs that do not belong in this table, and why."""
    mine = _mine(results)
    others = [name for name in mine if name not in runs]
    if not others:
        return ""
    why = listed(differences(mine.values(), FREE))
    return f"Not in this table, since the runs differ in {why}: {listed(others)}."


def num_images(run: Results) -> int:
    """Training images at the run's share, which is taken of each class: exact to a few images."""
    share, classes = run.study.recipe.data_fraction, run.data.num_classes
    images = share * run.data.num_train
    few = images < 5 * classes  # where rounding a class to whole images shows
    return classes * max(1, round(images / classes)) if few else round(images)


def data_scale_figures(results: Sequence[Results], metric: str | None = None) -> dict[str, Figure]:
    """A picture for each of the `parts`, by the name of its files. Call within `style.styled`."""
    return {name: _figure(part, metric) for name, part in parts(results).items()}


def _figure(runs: Mapping[str, Results], metric: str | None) -> Figure:
    """The metric against the number of training images, a line per network; ours only."""
    compared, networks = _compared(runs, metric), _networks(runs)
    axis = next(iter(compared.values())).metric.axis
    fig, ax = style.axes_with_title("Training images, log scale", axis)
    ax.set_xscale("log")
    for i, (title, cells) in enumerate(zip(_titles(networks), networks.values(), strict=True)):
        found = [
            (num_images(runs[name]), e)
            for name, cell in cells.items()
            if (e := shown(cell, compared[name]))
        ]
        _line(ax, found, i, title)
    ticks = {num_images(r): r.study.recipe.data_fraction for r in runs.values()}
    ax.set_xticks([*ticks])
    ax.set_xticklabels([f"{number:,} ({_percent(share)})" for number, share in ticks.items()])
    # The largest stands at the picture's edge.
    ax.get_xticklabels()[-1].set_horizontalalignment("right")
    ax.minorticks_off()
    if axis.endswith("(%)"):  # an interval over few seeds may leave what is possible
        low, high = ax.get_ylim()
        ax.set_ylim(max(low, -2.0), min(high, 102.0))
    style.legend_inside(ax, "", "lower right")
    return fig


def _line(ax: Axes, found: Sequence[tuple[int, Interval]], i: int, title: str) -> None:
    """A point per run; the line goes through the mean of the runs that share a number of images."""
    colour = style.LINES[i % len(style.LINES)]
    means: dict[int, list[float]] = {}
    for n, e in found:
        means.setdefault(n, []).append(e.mean)
        ax.plot([n], [e.mean], "o", color=colour)
        if e.low is not None and e.high is not None:
            ax.plot([n, n], [e.low, e.high], color=colour, linewidth=0.8, alpha=0.6)
    y = [sum(values) / len(values) for values in means.values()]
    ax.plot([*means], y, linestyle=style.DASHES[i % 4], color=colour, label=title)


def render(results: Sequence[Results], out_dir: Path, metric: str | None = None) -> list[Path]:
    """Write tables and pictures into ``out_dir``; nothing for runs that are no data-scale study."""
    written = [path for t in data_scale_tables(results, metric) for path in write(t, out_dir)]
    with style.styled():
        for name, figure in data_scale_figures(results, metric).items():
            written += style.save(figure, out_dir, name)
    return written
