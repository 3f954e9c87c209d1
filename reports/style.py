"""How every picture looks, and how it is written: the same numbers give the same bytes.

Text in an SVG stays text, so it can be searched and takes the page's font. Neutral colours are the
constants below and nothing else uses them, so that the page can swap them for its dark theme.
"""

import html
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, MUTED, FAINT, PAPER = "#1b1f1d", "#66706b", "#d9dedb", "#fefefe"
HATCH_FILL, HATCH_LINE = "#f1f3f2", "#b3bbb6"
GREENS = LinearSegmentedColormap.from_list(
    "greens", ["#eff7ea", "#c9e7c1", "#93cd92", "#51aa66", "#1f7f45", "#075a2e", "#013a1b"]
)
"""Light to dark in even steps of lightness: the order survives grey print and any colour vision."""

LINES = ("#00573b", "#c4541b", "#3b6ea8", "#8a4f9e", "#a58200", "#5b6570", "#2f8f83", "#b3446c")
"""For up to eight series; dark enough on white, light enough on black."""

THEME = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    FAINT: "var(--faint)",
    PAPER: "var(--paper)",
    HATCH_FILL: "var(--hatch-fill)",
    HATCH_LINE: "var(--hatch-line)",
} | {colour: f"var(--line-{i})" for i, colour in enumerate(LINES)}
"""Colour -> the page's variable for it."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))

RC: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "font.size": 8.5,
    "text.parse_math": False,  # names may hold $
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.formatter.useoffset": False,
    "axes.unicode_minus": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "hatch.linewidth": 0.7,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "archsearch",
    "path.simplify": False,
}

SYMBOLS = {
    "c1": "C₁",
    "group_channels": "C′",
    "l1": "L₁",
    "l3": "L₃",
    "alpha": "α",
    "beta": "β",
    "phi": "φ",
    "kernel_size": "K",
}
"""The paper's sign for a coordinate."""


def symbol(name: str) -> str:
    return SYMBOLS.get(name, name)


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib with exactly these settings, whatever the user's own are."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)  # type: ignore[arg-type]
        # A study may be named in any script; a sign the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


WIDTH, HEIGHT = 4.4, 3.1
"""Inches."""
SIGN, GAP = 5.1, 4.0
"""Points: a digit of a tick's label, and what is to be between two labels."""


def axes_with_title(x: str, y: str) -> tuple[Figure, Axes]:
    """One picture as wide as a phone shows at its size; the y label stands flat on top."""
    fig = Figure(figsize=(WIDTH, HEIGHT))
    ax = fig.add_axes((0.6 / WIDTH, 0.46 / HEIGHT, (WIDTH - 0.7) / WIDTH, (HEIGHT - 0.76) / HEIGHT))
    ax.set_xlabel(x)
    ax.set_title(y, weight="normal", size=8.5, pad=8, x=-0.5 / (WIDTH - 0.7))
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return fig, ax


def untangle(ax: Axes) -> None:
    """Fewer ticks on x where their labels would touch: long numbers, when a range is narrow."""
    low, high = ax.get_xlim()
    ticks = [x for x in ax.get_xticks() if low <= x <= high]
    long = max(map(len, ax.xaxis.get_major_formatter().format_ticks(ticks)), default=0)
    room = 72 * (WIDTH - 0.7)
    if len(ticks) * (long * SIGN + GAP) > room:
        ax.xaxis.set_major_locator(MaxNLocator(max(1, int(room / (long * SIGN + GAP)) - 1)))


def legend_inside(ax: Axes, title: str, loc: Any) -> None:
    ax.legend(loc=loc, title=title or None, title_fontsize=7.5, fontsize=7.5, alignment="left")


def png(figure: Figure, dpi: int = 200) -> bytes:
    """The picture as PNG, without date or version."""
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_figure(
        buffer, format="png", dpi=dpi, metadata={"Software": None}, facecolor=PAPER
    )
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """The picture as SVG, without date or version."""
    buffer = BytesIO()
    nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_figure(buffer, format="svg", metadata=nothing)
    return re.sub(r"[ \t]+\n", "\n", buffer.getvalue().decode())


def inline(svg_text: str, prefix: str, title: str) -> str:
    """An SVG to stand inside a page: scales to its column, follows the theme, ids of its own."""
    body = svg_text[svg_text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'url\(#|href="#', lambda m: m[0] + f"{prefix}-", body)
    for colour, variable in THEME.items():
        body = body.replace(colour, variable)
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', body)
    assert size is not None
    label = html.escape(title)
    head = f'role="img" aria-label="{label}" style="max-width: {float(size[1]) * 4 / 3:.0f}px"'
    return body.replace(size[0], head, 1)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``name``.png and ``name``.svg."""
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    paths[0].write_bytes(png(figure))
    paths[1].write_text(svg(figure), encoding="utf-8")
    return paths
