"""Style and output of all figures: the same numbers give the same bytes.

Text in an SVG stays text, so it can be searched and uses the page's font. Neutral colors are the
constants below and have no other use, so that the page can replace them in its dark theme.
"""

import html
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from archsearch.storage.files import write_bytes

INK, MUTED, FAINT, PAPER = "#1b1f1d", "#66706b", "#d9dedb", "#fefefe"
HATCH_FILL, HATCH_LINE = "#f1f3f2", "#b3bbb6"
GREENS = LinearSegmentedColormap.from_list(
    "greens", ["#eff7ea", "#c9e7c1", "#93cd92", "#51aa66", "#1f7f45", "#075a2e", "#013a1b"]
)
"""Light to dark in even steps of lightness, ordered also in gray print and for any color vision."""

LINES = ("#00573b", "#c4541b", "#3b6ea8", "#8a4f9e", "#a58200", "#5b6570", "#2f8f83", "#b3446c")
"""For up to eight series; dark enough on white, light enough on black."""

THEME = {
    INK: "var(--ink)", MUTED: "var(--muted)", FAINT: "var(--faint)", PAPER: "var(--paper)",
    HATCH_FILL: "var(--hatch-fill)", HATCH_LINE: "var(--hatch-line)",
    **{color: f"var(--line-{i})" for i, color in enumerate(LINES)},
}  # fmt: skip
"""Color -> the page's CSS variable."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))


def series(i: int) -> dict[str, Any]:
    """Return color and line style of the i-th line of a figure; the first 32 are different."""
    color, turn = i % len(LINES), i // len(LINES)
    return {"color": LINES[color], "linestyle": DASHES[(color + turn) % len(DASHES)]}


TICKS = {"color": MUTED, "labelcolor": INK, "labelsize": 8, "major.width": 0.7, "major.size": 3}
RC: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "text.parse_math": False,  # names may hold $
    "font.size": 8.5, "text.color": INK, "figure.facecolor": PAPER, "axes.facecolor": "none",
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "axes.linewidth": 0.7, "axes.labelsize": 8.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False,
    "axes.titlesize": 9, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.formatter.useoffset": False, "axes.unicode_minus": True,
    "legend.frameon": False, "legend.fontsize": 8, "lines.linewidth": 1.4, "hatch.linewidth": 0.7,
    "svg.fonttype": "none", "svg.hashsalt": "archsearch", "path.simplify": False,
    **{f"{axis}tick.{name}": value for axis in "xy" for name, value in TICKS.items()},
}  # fmt: skip

SYMBOLS = {"alpha": "α", "beta": "β", "phi": "φ", "kernel_size": "K"}
"""The paper's symbol for a coordinate that no family labels."""

SUBSCRIPTS = str.maketrans("0123456789'", "₀₁₂₃₄₅₆₇₈₉′")


def symbol(label: str) -> str:
    """Return a label as it is printed: ``C1`` as C₁, ``C'`` as C′, ``alpha`` as α."""
    match = re.fullmatch(r"([A-Z])(\d+|')", label)
    return SYMBOLS.get(label) or (match[1] + match[2].translate(SUBSCRIPTS) if match else label)


@contextmanager
def styled() -> Iterator[None]:
    """Set exactly these settings of matplotlib, independent of the user's settings."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)  # type: ignore[arg-type]
        # The name of a study may have characters that the font lacks; they are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


WIDTH, HEIGHT = 4.4, 3.1
"""Inches."""
DIGIT_WIDTH, LABEL_GAP = 5.1, 4.0
"""Points: width of a digit of a tick's label, and minimum distance of two labels."""


def axes_with_title(x: str, y: str) -> tuple[Figure, Axes]:
    """Return a figure that fits the width of a phone; the y label is horizontal, above the axes."""
    fig = Figure(figsize=(WIDTH, HEIGHT))
    ax = fig.add_axes((0.6 / WIDTH, 0.46 / HEIGHT, (WIDTH - 0.7) / WIDTH, (HEIGHT - 0.76) / HEIGHT))
    ax.set_xlabel(x)
    ax.set_title(y, weight="normal", size=8.5, pad=8, x=-0.5 / (WIDTH - 0.7))
    horizontal_grid(ax)
    ax.set_axisbelow(True)
    return fig, ax


def epoch_axes(y: str) -> tuple[Figure, Axes]:
    """Return a figure over epochs with a log scale on y."""
    fig, ax = axes_with_title("Epoch", y)
    ax.set_yscale("log")
    plain_log_ticks(ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return fig, ax


def horizontal_grid(ax: Axes) -> None:
    """Draw horizontal lines instead of the y axis."""
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def framed(ax: Axes) -> Axes:
    """Give axes for an image a faint frame and no ticks, and return them."""
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(visible=True, color=FAINT)
    return ax


def plain_log_ticks(axis: Axis, subs: tuple[float, ...] = (1.0, 2.0, 5.0)) -> None:
    """Set labels such as 0.5, 1, 2 on a log scale, and no minor ticks."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())


def thin_out_x_ticks(ax: Axes) -> None:
    """Use fewer ticks on x if their labels would touch, as long numbers of a narrow range do."""
    low, high = ax.get_xlim()
    ticks = [x for x in ax.get_xticks() if low <= x <= high]
    longest = max(map(len, ax.xaxis.get_major_formatter().format_ticks(ticks)), default=0)
    space, label_width = 72 * (WIDTH - 0.7), longest * DIGIT_WIDTH + LABEL_GAP
    if len(ticks) * label_width > space:
        ax.xaxis.set_major_locator(MaxNLocator(max(1, int(space / label_width) - 1)))


def legend_inside(ax: Axes, loc: Any, title: str | None = None) -> None:
    ax.legend(loc=loc, title=title, title_fontsize=7.5, fontsize=7.5, alignment="left")


def legend_below(ax: Axes, title: str | None = None) -> None:
    """Write the legend in two columns below the axes, where it covers nothing.

    The figure grows, the axes keep their size.
    """
    fig, (handles, labels) = ax.get_figure(root=True), ax.get_legend_handles_labels()
    assert fig is not None, "the axes are in a figure"
    (width, height), (left, bottom, right, top) = fig.get_size_inches(), ax.get_position().extents
    room = 0.1 + 0.16 * (math.ceil(len(labels) / 2) + bool(title))
    fig.set_size_inches(width, height + room)
    bottom, top = ((y * height + room) / (height + room) for y in (bottom, top))
    ax.set_position((left, bottom, right - left, top - bottom))
    fig.legend(
        handles, labels, loc="lower left", ncols=2, title=title, alignment="left", fontsize=7.5,
        title_fontsize=7.5,
    )  # fmt: skip


def error_bar(ax: Axes, x: float, low: float | None, high: float | None, color: str) -> None:
    """Draw a thin vertical line; nothing without an interval."""
    if low is not None and high is not None:
        ax.plot([x, x], [low, high], color=color, linewidth=0.8, alpha=0.6)


def color_bar(fig: Figure, mappable: Any, box: tuple[float, float, float], label: str) -> Axes:
    """Draw a horizontal color bar at (left, bottom, width) in inches and return its axes."""
    ax = axes_at(fig, *box, 0.09)
    fig.colorbar(mappable, cax=ax, orientation="horizontal")
    ax.set_xlabel(label, size=7.5, labelpad=1)
    ax.tick_params(labelsize=7, length=2)
    return ax


def axes_at(fig: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a position in inches."""
    w, h = fig.get_size_inches()
    return fig.add_axes((left / w, bottom / h, width / w, height / h))


def text_at(fig: Figure, x: float, y: float, text: str, **kwargs: Any) -> None:
    """Add text at a position in inches."""
    w, h = fig.get_size_inches()
    fig.text(x / w, y / h, text, **kwargs)


def text_size(text: str, size: float) -> tuple[float, float]:
    """Return width and height in inches of a text of ``size`` points. Call it within `styled`."""
    dpi = 288.0  # fine enough that rounding to pixels is negligible
    renderer = FigureCanvasAgg(Figure(dpi=dpi)).get_renderer()  # type: ignore[no-untyped-call]
    extent = Figure(dpi=dpi).text(0, 0, text, size=size).get_window_extent(renderer)
    return extent.width / dpi, extent.height / dpi


MAX_PIXELS = 16_000
"""The largest side of a PNG; viewers and browsers refuse much more."""


@styled()
def _printed(canvas: FigureCanvasBase, **options: Any) -> bytes:
    buffer = BytesIO()
    canvas.print_figure(buffer, **options)
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """Return the figure as PNG, without date or version; a very large one has fewer dots."""
    dpi = min(200.0, MAX_PIXELS / max(figure.get_size_inches()))
    options = {"dpi": dpi, "facecolor": PAPER, "metadata": {"Software": None}}
    return _printed(FigureCanvasAgg(figure), format="png", **options)


def svg(figure: Figure) -> str:
    """Return the figure as SVG, without date or version."""
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    text = _printed(FigureCanvasSVG(figure), format="svg", metadata=metadata).decode()
    return re.sub(r"[ \t]+\n", "\n", text)


def inline_svg(figure: Figure, prefix: str, title: str) -> str:
    """Return an SVG for a page: it scales to its column, follows the theme and has unique ids."""
    text = svg(figure)
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'url\(#|href="#', lambda m: m[0] + f"{prefix}-", body)
    for color, variable in THEME.items():
        body = body.replace(color, variable)
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', body)
    assert size is not None
    label, width = html.escape(title), float(size[1]) * 4 / 3
    head = f'role="img" aria-label="{label}" style="max-width: {width:.0f}px"'
    return body.replace(size[0], head, 1)


FORMATS: Mapping[str, Callable[[Figure], bytes]] = {
    "png": png,
    "svg": lambda figure: svg(figure).encode(),
}


def write_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write the figure in every format as ``folder/<name>.<format>``."""
    paths = {folder / f"{name}.{suffix}": writer for suffix, writer in FORMATS.items()}
    for path, writer in paths.items():
        write_bytes(path, writer(figure))
    return [*paths]
