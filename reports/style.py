"""How every figure looks, and how it is written: the same numbers give the same bytes.

Text in an SVG stays text, so it can be searched and takes the page's font. Neutral colors are the
constants below and nothing else uses them, so that the page can swap them for its dark theme.
"""

import html
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

INK, MUTED, FAINT, PAPER = "#1b1f1d", "#66706b", "#d9dedb", "#fefefe"
HATCH_FILL, HATCH_LINE = "#f1f3f2", "#b3bbb6"
GREENS = LinearSegmentedColormap.from_list(
    "greens", ["#eff7ea", "#c9e7c1", "#93cd92", "#51aa66", "#1f7f45", "#075a2e", "#013a1b"]
)
"""Light to dark in even steps of lightness: the order survives gray print and any color vision."""

LINES = ("#00573b", "#c4541b", "#3b6ea8", "#8a4f9e", "#a58200", "#5b6570", "#2f8f83", "#b3446c")
"""For up to eight series; dark enough on white, light enough on black."""

THEME = {
    INK: "var(--ink)", MUTED: "var(--muted)", FAINT: "var(--faint)", PAPER: "var(--paper)",
    HATCH_FILL: "var(--hatch-fill)", HATCH_LINE: "var(--hatch-line)",
    **{color: f"var(--line-{i})" for i, color in enumerate(LINES)},
}  # fmt: skip
"""Color -> the page's variable for it."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))

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
"""The paper's sign for a coordinate that no family labels."""

SUBSCRIPTS = str.maketrans("0123456789'", "₀₁₂₃₄₅₆₇₈₉′")


def symbol(label: str) -> str:
    """A label as it is printed: ``C1`` as C₁, ``C'`` as C′, ``alpha`` as α."""
    sign = re.fullmatch(r"([A-Z])(\d+|')", label)
    return SYMBOLS.get(label) or (sign[1] + sign[2].translate(SUBSCRIPTS) if sign else label)


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
DIGIT_WIDTH, LABEL_GAP = 5.1, 4.0
"""Points: a digit of a tick's label, and the least distance of two labels."""


def axes_with_title(x: str, y: str) -> tuple[Figure, Axes]:
    """A figure as wide as a phone shows at its size; the y label stands horizontally on top."""
    fig = Figure(figsize=(WIDTH, HEIGHT))
    ax = fig.add_axes((0.6 / WIDTH, 0.46 / HEIGHT, (WIDTH - 0.7) / WIDTH, (HEIGHT - 0.76) / HEIGHT))
    ax.set_xlabel(x)
    ax.set_title(y, weight="normal", size=8.5, pad=8, x=-0.5 / (WIDTH - 0.7))
    horizontal_grid(ax)
    ax.set_axisbelow(True)
    return fig, ax


def epoch_axes(y: str) -> tuple[Figure, Axes]:
    """A figure over epochs with a log scale on y."""
    fig, ax = axes_with_title("Epoch", y)
    ax.set_yscale("log")
    plain_log_ticks(ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return fig, ax


def horizontal_grid(ax: Axes) -> None:
    """Horizontal lines in place of the y axis."""
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def framed(ax: Axes) -> Axes:
    """The axes with a faint frame and no ticks, for an image."""
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(visible=True, color=FAINT)
    return ax


def plain_log_ticks(axis: Axis, subs: tuple[float, ...] = (1.0, 2.0, 5.0)) -> None:
    """Labels such as 0.5, 1, 2 on a log scale, and no minor ticks."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())


def thin_out_x_ticks(ax: Axes) -> None:
    """Fewer ticks on x where their labels would touch: long numbers, when a range is narrow."""
    low, high = ax.get_xlim()
    ticks = [x for x in ax.get_xticks() if low <= x <= high]
    longest = max(map(len, ax.xaxis.get_major_formatter().format_ticks(ticks)), default=0)
    space, label_width = 72 * (WIDTH - 0.7), longest * DIGIT_WIDTH + LABEL_GAP
    if len(ticks) * label_width > space:
        ax.xaxis.set_major_locator(MaxNLocator(max(1, int(space / label_width) - 1)))


def legend_inside(ax: Axes, title: str, loc: Any) -> None:
    ax.legend(loc=loc, title=title or None, title_fontsize=7.5, fontsize=7.5, alignment="left")


def error_bar(ax: Axes, x: float, low: float | None, high: float | None, color: str) -> None:
    """A thin vertical line; nothing where there is no interval."""
    if low is not None and high is not None:
        ax.plot([x, x], [low, high], color=color, linewidth=0.8, alpha=0.6)


def axes_at(fig: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches."""
    w, h = fig.get_size_inches()
    return fig.add_axes((left / w, bottom / h, width / w, height / h))


def text_at(fig: Figure, x: float, y: float, text: str, **look: Any) -> None:
    """Text at a place in inches."""
    w, h = fig.get_size_inches()
    fig.text(x / w, y / h, text, **look)


def text_size(text: str, size: float) -> tuple[float, float]:
    """Width and height in inches of a text of ``size`` points. Call within `styled`."""
    dpi = 288.0  # fine enough that rounding to pixels does not show
    renderer = FigureCanvasAgg(Figure(dpi=dpi)).get_renderer()  # type: ignore[no-untyped-call]
    extent = Figure(dpi=dpi).text(0, 0, text, size=size).get_window_extent(renderer)
    return extent.width / dpi, extent.height / dpi


@styled()
def _printed(canvas: FigureCanvasBase, **options: Any) -> bytes:
    buffer = BytesIO()
    canvas.print_figure(buffer, **options)
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as PNG, without date or version."""
    options = {"dpi": 200, "facecolor": PAPER, "metadata": {"Software": None}}
    return _printed(FigureCanvasAgg(figure), format="png", **options)


def svg(figure: Figure) -> str:
    """The figure as SVG, without date or version."""
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    text = _printed(FigureCanvasSVG(figure), format="svg", metadata=nothing).decode()
    return re.sub(r"[ \t]+\n", "\n", text)


def inline_svg(figure: Figure, prefix: str, title: str) -> str:
    """An SVG for a page: scales to its column, follows the theme, has ids of its own."""
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
        path.write_bytes(writer(figure))
    return [*paths]
