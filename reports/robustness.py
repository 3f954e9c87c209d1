"""Fig. C, rows 1 and 2: consistency of predictions against shift and turn, and its table."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.probes.photos import Consistency
from archsearch.reports import style
from archsearch.reports.formats import Table, table, write
from archsearch.reports.style import DASHES, FAINT, LINES

WIDTH, HEIGHT = 7.4, 3.2
TITLES = {"translation": "Shift (pixels)", "rotation": "Turn (degrees)"}


def render(found: Sequence[Consistency], image_size: int, out: Path) -> list[Path]:
    """Write the curves and their numbers into ``out``."""
    with style.styled():
        paths = style.save(figure(found, image_size), out, "robustness")
    return paths + write(consistency_table(found, image_size), out)


def figure(found: Sequence[Consistency], image_size: int) -> Figure:
    """Two panels, a line per network, its 95% interval as a band. Call within `style.styled`."""
    fig = Figure(figsize=(WIDTH, HEIGHT))
    names = list(dict.fromkeys(c.network for c in found))
    low = min(c.low for c in found)
    for i, (transform, title) in enumerate(TITLES.items()):
        ax = fig.add_axes((0.075 + i * 0.49, 0.2, 0.42, 0.66))
        for j, name in enumerate(names):
            _curve(ax, [c for c in found if (c.network, c.transform) == (name, transform)], j)
        ax.set_xlabel(title if transform == "rotation" else _shift_words(title, found, image_size))
        ax.set_ylim(max(0.0, 100 * low - 4), 102.5)  # room for the dot at 100
        ax.grid(axis="y", color=FAINT, linewidth=0.6)
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        if i == 0:
            ax.set_title("Predictions unchanged (%)", weight="normal", size=8.5, x=-0.12, pad=8)
    ax.legend(loc="lower left")
    return fig


def _shift_words(title: str, found: Sequence[Consistency], image_size: int) -> str:
    most = max((c for c in found if c.transform == "translation"), key=lambda c: c.amount)
    if image_size == 224:
        return title
    return (
        f"{title[:-1]} of {image_size} × {image_size};\n"
        f"{most.amount:g} are {most.paper_amount:.0f} of the paper's 224)"
    )


def _curve(ax: Axes, points: Sequence[Consistency], i: int) -> None:
    x = [p.amount for p in points]
    color = LINES[i % len(LINES)]
    ax.plot(x, [100 * p.share for p in points], color=color, linestyle=DASHES[i % 4], marker="o",
            markersize=3, label=points[0].network)  # fmt: skip
    ax.fill_between(x, [100 * p.low for p in points], [100 * p.high for p in points],
                    color=color, alpha=0.15, linewidth=0)  # fmt: skip


def consistency_table(found: Sequence[Consistency], image_size: int) -> Table:
    """Every point of the curves."""
    columns = {
        "Network": [c.network for c in found],
        "Transform": [c.transform for c in found],
        "Amount": [_amount(c) for c in found],
        "In the paper": [_paper_amount(c) for c in found],
        "Unchanged (%)": [f"{100 * c.share:.1f}" for c in found],
        "95% interval": [f"{100 * c.low:.1f} to {100 * c.high:.1f}" for c in found],
        "Accuracy (%)": [f"{c.accuracy:.1f}" for c in found],
    }
    note = (
        f"Share of {found[0].num_images} validation images with the prediction that they have "
        f"unmoved, at {image_size} x {image_size}, over shifts in four directions and turns both "
        "ways; intervals by Wilson over images. The paper prints curves (Fig. C) and no numbers."
    )
    rows = [vars(c) for c in found]
    return table("robustness", "Consistency of predictions", columns, rows, note=note)


def _amount(c: Consistency) -> str:
    return f"{c.amount:g} px" if c.transform == "translation" else f"{c.amount:g}°"


def _paper_amount(c: Consistency) -> str:
    return f"{c.paper_amount:.0f} px" if c.transform == "translation" else f"{c.amount:g}°"
