"""Accuracy by the share of the training set, as in Table H: several runs, one per share."""

from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.core.family import Family
from archsearch.reports import style
from archsearch.reports.card import CardContent, CrossCard
from archsearch.reports.cell_order import reported_interval
from archsearch.reports.columns import paper_fields, paper_text, result_text
from archsearch.reports.comparable_runs import Runs, comparable_groups, differences, runs_by_name
from archsearch.reports.context import Context, Contexts
from archsearch.reports.formats import MISSING, Table
from archsearch.reports.phrases import listed, paragraph, percent
from archsearch.results import CellResult, Comparison
from archsearch.stats.intervals import Interval

FREE = "data_fraction"
"""The only field of the recipe in which the runs of a data-scale study differ."""

PAPER: dict[str, dict[float, str]] = {
    "ResNet-50": {0.01: "12.2", 0.1: "57.5", 1.0: "80.4"},
    "ConvNeXt-T": {0.01: "8.4", 0.1: "52.6", 1.0: "82.1"},
    "Swin-T": {0.01: "failed", 0.1: "12.1", 1.0: "81.3"},
}
"""The other networks of Table H -> share -> ImageNet-1K top-1 in percent, as printed."""

Network = tuple[str, Family | None]
"""An operator and the network that has it."""
Cells = Mapping[str, CellResult]
"""Cells by the name of the run."""


def studies(contexts: Contexts) -> dict[str, Runs]:
    """Return the comparable groups of data-scale runs, by the names of their files.

    The runs of a group have the same data and the same recipe except for the share of the images,
    and at least two shares, the smallest first. The names are data-scale, data-scale-2, ...
    """
    groups = comparable_groups(_data_scale_runs(contexts), FREE)
    several = [group for group in groups if len({*map(_share, group.values())}) > 1]
    ordered = [dict(sorted(g.items(), key=lambda item: _share(item[1]))) for g in several]
    return {f"data-scale-{i}" if i > 1 else "data-scale": g for i, g in enumerate(ordered, 1)}


def _data_scale_runs(contexts: Contexts) -> Runs:
    """Return the runs of studies that name this report."""
    runs = runs_by_name(contexts).items()
    return {n: run for n, run in runs if "data-scale" in run.results.study.reports}


def _share(run: Context) -> float:
    return run.results.study.recipe.data_fraction


def data_scale_table(runs: Runs, contexts: Contexts) -> Table:
    """Return a row per network, a column per run, then a column per share of the paper."""
    comparisons, networks = _comparisons(runs), _networks(runs)
    columns = {"Core operator or network": [*_titles(networks), *PAPER]}
    for name, title in _run_titles(runs).items():
        cells = [cells.get(name) for cells in networks.values()]
        ours = [result_text(cell, comparisons[name]) if cell else MISSING for cell in cells]
        head = f"{title}: {comparisons[name].metric.axis}, ours"
        columns[head] = [*ours, *(MISSING for _ in PAPER)]
    for share, names in _by_share(runs).items():
        printed = [_printed(cells, names) for cells in networks.values()]
        others = [by_share.get(share, MISSING) for by_share in PAPER.values()]
        columns[f"{percent(share)}: top-1 (%), paper"] = [*printed, *others]
    note = paragraph(_note(runs), _same_share_note(runs), _other_runs_note(runs, contexts))
    rows = [
        {"share": _share(run), "run": name} | row | paper_fields(cell)
        for name, run in runs.items()
        for row, cell in zip(run.rows, run.cells, strict=True)
    ]
    return Table.of(columns, rows, note=note)


def _comparisons(runs: Runs) -> dict[str, Comparison]:
    """Compare the cells of every run by the metric of the first run."""
    metric = next(iter(runs.values())).metric.name
    return {name: run.results.compare(metric) for name, run in runs.items()}


def _networks(runs: Runs) -> dict[Network, Cells]:
    networks: dict[Network, dict[str, CellResult]] = {}
    for name, cell in ((name, cell) for name, run in runs.items() for cell in run.cells):
        operator = str(cell.cell.requested.get("operator", cell.label))
        networks.setdefault((operator, cell.cell.variant), {})[name] = cell
    return dict(networks)


def _titles(networks: Mapping[Network, Cells]) -> list[str]:
    """Return the operators, with the network if an operator has several networks."""
    operators = [operator for operator, _ in networks]
    return [
        f"{operator}, {variant.name}" if variant and operators.count(operator) > 1 else operator
        for operator, variant in networks
    ]


def _run_titles(runs: Runs) -> dict[str, str]:
    """Return run name -> share, with the name if several runs have that share."""
    return {
        name: percent(share) + (f", {name}" if len(names) > 1 else "")
        for share, names in _by_share(runs).items()
        for name in names
    }


def _by_share(runs: Runs) -> dict[float, list[str]]:
    """Return share -> names of its runs."""
    names: dict[float, list[str]] = {}
    for name, run in runs.items():
        names.setdefault(_share(run), []).append(name)
    return names


def _printed(cells: Cells, names: Sequence[str]) -> str:
    """Return the paper's accuracy of a network at the share of these runs."""
    texts = [paper_text(cells[name], "accuracy") for name in names if name in cells]
    return next((text for text in texts if text != MISSING), MISSING)


def _note(runs: Runs) -> str:
    first = next(iter(runs.values())).results
    by_share = {_share(run): run for run in runs.values()}
    images = ", ".join(f"{percent(s)} {num_images(run):,}" for s, run in by_share.items())
    return (
        f"Ours: {first.data.name}, {first.study.recipe.epochs} epochs; approximate number of "
        f"training images: {images}. Shares are stratified and nested, and measured on the same "
        "images; the number of epochs is constant, so fewer images also mean fewer steps. The "
        "paper's: ImageNet-1K, 300 epochs, one training each."
    )


def _same_share_note(runs: Runs) -> str:
    """Return which runs have the same share; empty if none have."""
    several = {share: names for share, names in _by_share(runs).items() if len(names) > 1}
    texts = "; ".join(f"{percent(share)}: {listed(names)}" for share, names in several.items())
    return f"Runs with the same share have a column each: {texts}." if several else ""


def _other_runs_note(runs: Runs, contexts: Contexts) -> str:
    """Return the data-scale runs that are not in this table, and why."""
    all_runs = _data_scale_runs(contexts)
    others = listed([name for name in all_runs if name not in runs])
    reasons = listed(differences(all_runs.values(), FREE))
    return f"Not in this table, since the runs differ in {reasons}: {others}." if others else ""


def num_images(run: Context) -> int:
    """Return the number of training images at the run's share, exact to a few images.

    The share is taken from each class.
    """
    data = run.results.data
    images = _share(run) * data.num_train
    few = images < 5 * data.num_classes  # then rounding each class to whole images matters
    per_class = max(1, round(images / data.num_classes))
    return data.num_classes * per_class if few else round(images)


def data_scale_figure(runs: Runs) -> Figure:
    """Plot the metric against the number of training images, a line per network of ours."""
    comparisons, networks = _comparisons(runs), _networks(runs)
    axis = next(iter(comparisons.values())).metric.axis
    fig, ax = style.axes_with_title("Training images, log scale", axis)
    ax.set_xscale("log")
    for i, (title, cells) in enumerate(zip(_titles(networks), networks.values(), strict=True)):
        points = [
            (num_images(runs[name]), interval)
            for name, cell in cells.items()
            if (interval := reported_interval(cell, comparisons[name]))
        ]
        _plot_network(ax, points, i, title)
    _label_shares(ax, runs)
    if axis.endswith("(%)"):  # an interval over few seeds may exceed 0 to 100%
        low, high = ax.get_ylim()
        ax.set_ylim(max(low, -2.0), min(high, 102.0))
    style.legend_inside(ax, "lower right")
    return fig


def _plot_network(ax: Axes, points: Sequence[tuple[int, Interval]], i: int, title: str) -> None:
    """Plot a point per run, and a line through the means of runs with equal numbers of images."""
    line = style.series(i)
    means: dict[int, list[float]] = {}
    for n, interval in points:
        means.setdefault(n, []).append(interval.mean)
        ax.plot([n], [interval.mean], "o", color=line["color"])
        style.error_bar(ax, n, interval.low, interval.high, line["color"])
    ax.plot([*means], [*map(mean, means.values())], **line, label=title)


def _label_shares(ax: Axes, runs: Runs) -> None:
    ticks = {num_images(run): _share(run) for run in runs.values()}
    ax.set_xticks([*ticks])
    ax.set_xticklabels([f"{number:,} ({percent(share)})" for number, share in ticks.items()])
    # The largest share is at the figure's edge.
    ax.get_xticklabels()[-1].set_horizontalalignment("right")
    ax.minorticks_off()


def _contents(contexts: Contexts) -> list[CardContent]:
    return [
        CardContent(
            name=name,
            title="Data scale, as in Table H",
            table=data_scale_table(runs, contexts),
            figure=data_scale_figure(runs),
        )
        for name, runs in studies(contexts).items()
    ]


DATA_SCALE = CrossCard(name="data-scale", contents=_contents, has_files=True)
