"""Parameters and memory with shared and unshared weights, as in Fig. 4, beside the paper's."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archsearch.core.cost import image_size as plain_size
from archsearch.core.numbers import ImageSize, parse_image_size, size_text
from archsearch.paper.weight_sharing import NOTE, Sharing
from archsearch.reports import style
from archsearch.reports.formats import Table, number, write_table

RATIOS = {
    "more_params": "More parameters unshared",
    "saved_params": "Parameters saved",
    "saved_memory": "Memory saved",
}


def sharing_table(rows: Sequence[Sharing], batch_size: int, image_size: ImageSize) -> Table:
    """Return a row per model, with the paper's ratios in separate columns, and measured memory."""
    columns = {
        "Model": [r.model for r in rows],
        "Params (M), shared": [f"{r.params / 1e6:.1f}" for r in rows],
        "Params (M), unshared": [f"{r.params_unshared / 1e6:.1f}" for r in rows],
    }
    columns |= _ratio("more_params", rows)
    columns |= _ratio("saved_params", rows)
    columns |= {
        "Peak (GB), predicted, shared": [_gb(r.memory.peak_bytes) for r in rows],
        "Peak (GB), predicted, unshared": [_gb(r.memory_unshared.peak_bytes) for r in rows],
    }
    columns |= _ratio("saved_memory", rows)
    columns |= _measured(rows)
    size = plain_size(*parse_image_size(image_size))
    data = [r.to_dict() | {"image_size": size} for r in rows]
    images = f"{batch_size} images at {size_text(size)}"
    title = f"Shared and unshared weights, as in Fig. 4: {images}"
    return Table.of(columns, data, note=NOTE, title=title, name="weight-sharing")


def _ratio(name: str, rows: Sequence[Sharing]) -> dict[str, list[str]]:
    """Return our ratio and the paper's, in separate columns."""
    return {
        f"{RATIOS[name]} (%), ours": [f"{getattr(r, name):.1f}" for r in rows],
        f"{RATIOS[name]} (%), paper": [number(r.paper.get(name), ".1f") for r in rows],
    }


def _measured(rows: Sequence[Sharing]) -> dict[str, list[str]]:
    """Return the columns of measured memory; none if nothing was measured."""
    if all(r.measured is None for r in rows):
        return {}
    saved = f"{RATIOS['saved_memory']} (%), measured"
    return {
        "Peak (GB), measured, shared": [_gb(r.measured) for r in rows],
        "Peak (GB), measured, unshared": [_gb(r.measured_unshared) for r in rows],
        saved: [number(r.saved_measured, ".1f") for r in rows],
    }


def _gb(num_bytes: int | None) -> str:
    return number(num_bytes, ".2f", 1e9)


@style.styled()
def sharing_figure(rows: Sequence[Sharing], batch_size: int) -> Figure:
    """Plot parameters above and predicted memory per image below, for shared and unshared."""
    fig = Figure(figsize=(style.WIDTH, 1.5 * style.HEIGHT))
    top, bottom = fig.subplots(2, 1, sharex=True)
    _plot_pair(
        top, "Parameters (M), log scale", rows,
        [r.params / 1e6 for r in rows], [r.params_unshared / 1e6 for r in rows],
    )  # fmt: skip
    _plot_pair(
        bottom, f"Peak of a step per image (GB), predicted, batch {batch_size}, log scale", rows,
        [r.memory.peak_bytes / batch_size / 1e9 for r in rows],
        [r.memory_unshared.peak_bytes / batch_size / 1e9 for r in rows],
    )  # fmt: skip
    for i, row in enumerate(rows):
        for value, color in zip((row.measured, row.measured_unshared), style.LINES, strict=False):
            if value is not None:
                bottom.plot(i, value / batch_size / 1e9, "x", color=color)
    if any(row.measured for row in rows):
        bottom.plot([], [], "x", color=style.MUTED, label="measured")
    top.legend(loc="upper left")
    bottom.legend(loc="upper left")
    fig.tight_layout()
    return fig


def _plot_pair(
    ax: Axes, title: str, rows: Sequence[Sharing], shared: list[float], unshared: list[float]
) -> None:
    for i, (values, label) in enumerate(((shared, "shared"), (unshared, "unshared"))):
        ax.plot(range(len(rows)), values, "o", **style.series(i), label=label, markersize=4)
    ax.set_yscale("log")
    style.plain_log_ticks(ax.yaxis)
    ax.set_title(title, weight="normal", size=8.5)
    ax.set_xticks(range(len(rows)), [r.model for r in rows])
    ax.grid(axis="y", color=style.FAINT, linewidth=0.6)


def render(
    rows: Sequence[Sharing], batch_size: int, image_size: ImageSize, out_dir: Path
) -> list[Path]:
    """Write table and figure into ``out_dir``."""
    out_dir.mkdir(parents=True, exist_ok=True)
    figures = style.write_figure(sharing_figure(rows, batch_size), out_dir, "weight-sharing")
    return write_table(sharing_table(rows, batch_size, image_size), out_dir) + figures
