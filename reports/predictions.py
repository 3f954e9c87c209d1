"""Predictions on images: a row per image, what is annotated at the left, what is predicted right.

Every object carries the name of its class and its score, every class of a label map its name, so
that no color has to be distinguished.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import AbstractPathEffect, withStroke
from numpy.typing import NDArray

from archsearch.reports import style
from archsearch.reports.card import Card, unless
from archsearch.reports.context import Context
from archsearch.results import TrialResult
from archsearch.scenes.predicted import Predicted, read
from archsearch.scenes.scene import IGNORED, Masks, Objects
from archsearch.storage.files import write_bytes

WIDE, GAP, MARGIN, TITLE = 3.0, 0.1, 0.08, 0.24
"""Inches: width of an image, space between images, margin, height of the titles."""

MIN_SCORE = 0.3
"""The lowest score of a predicted object that is drawn."""

HOW_TO_READ = (
    "Images held out of the training images: at the left as annotated, at the right as predicted. "
    f"Objects are drawn from a score of {MIN_SCORE}."
)

MASK_OPACITY, MAP_OPACITY = 0.4, 0.6
MIN_REGION = 0.01
"""Share of the image from which a class of a label map is named."""

BACKGROUND = "background"
"""A class of this name is not drawn."""


def render(
    images: Sequence[Predicted], classes: Sequence[str], out: Path, name: str = "predictions"
) -> list[Path]:
    """Write the figure into ``out``; ``classes`` are the names of the labels."""
    return style.write_figure(figure(images, classes), out, name)


@style.styled()
def figure(images: Sequence[Predicted], classes: Sequence[str]) -> Figure:
    """Draw the annotation and the prediction of each image."""
    heights = [WIDE * image.scene.size[0] / image.scene.size[1] for image in images]
    total = TITLE + MARGIN + sum(heights) + GAP * len(images)
    fig = Figure(figsize=(2 * (MARGIN + WIDE) + GAP, total))
    bottom = total - TITLE
    for image, height in zip(images, heights, strict=True):
        bottom -= height
        for column, shown in enumerate((_annotated(image), image)):
            left = MARGIN + column * (WIDE + GAP)
            _draw(style.axes_at(fig, left, bottom, WIDE, height), shown, classes)
        bottom -= GAP
    for column, title in enumerate(("Annotated", "Predicted")):
        left = MARGIN + column * (WIDE + GAP)
        style.text_at(fig, left, total - TITLE + 0.07, title, weight="bold", size=8.5)
    return fig


def write_page(file: Path, title: str, out: Path) -> None:
    """Write the predictions in a file of a training as a page that loads nothing.

    Raises:
        ValueError: it is no file of predictions.
    """
    drawn = style.inline_svg(figure(*read(file)), "predictions", title)
    css = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{css}</style>'
    body = f"<main><h2>{escape(title)}</h2>{drawn}<p>{HOW_TO_READ}</p></main>"
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
    write_bytes(out, page.encode())


def _annotated(image: Predicted) -> Predicted:
    """The annotation of the kind that is predicted."""
    if image.label_map is None:
        return Predicted(image.scene, image.scene.objects)
    return Predicted(image.scene, label_map=image.scene.label_map)


def _draw(ax: Axes, image: Predicted, classes: Sequence[str]) -> None:
    height, width = image.scene.size
    objects, scores = _best(image)
    regions = _regions(image, objects, classes)
    pixels = _tinted(
        image.scene.pixels / 255, regions, MAP_OPACITY if objects is None else MASK_OPACITY
    )
    style.framed(ax).imshow(pixels, extent=(0, width, height, 0), interpolation="nearest")
    ax.set(xlim=(0, width), ylim=(height, 0))
    if objects is not None:
        _draw_boxes(ax, objects, scores, classes)
        return
    for mask, label in regions:
        if mask.mean() >= MIN_REGION:
            _write(ax, *_center(mask), classes[label], label, ha="center", va="center")


def _best(image: Predicted) -> tuple[Objects | None, NDArray[np.float32] | None]:
    """The objects to draw, the best scores last, so that they are on top."""
    best = image.best()
    if best.objects is None or best.scores is None:
        return best.objects, None
    chosen = best.scores >= MIN_SCORE
    return best.objects[chosen], best.scores[chosen]


def _regions(
    image: Predicted, objects: Objects | None, classes: Sequence[str]
) -> list[tuple[Masks, int]]:
    """The masks of objects, or the regions of the classes of a label map; with their labels."""
    if objects is not None:
        if objects.masks is None:
            return []
        return list(zip(objects.masks, objects.labels.tolist(), strict=True))
    label_map = image.label_map
    if label_map is None:
        return []
    labels = [label for label in np.unique(label_map).tolist() if label != IGNORED]
    return [(label_map == label, label) for label in labels if classes[label] != BACKGROUND]


def _tinted(
    pixels: NDArray[np.float64], regions: Sequence[tuple[Masks, int]], opacity: float
) -> NDArray[np.float64]:
    """The image with the regions in the colors of their classes, the last on top."""
    tinted = pixels.copy()
    for mask, label in regions:
        tinted[mask] = (1 - opacity) * pixels[mask] + opacity * np.array(to_rgb(_color(label)))
    return tinted


def _color(label: int) -> str:
    return style.LINES[label % len(style.LINES)]


def _center(mask: Masks) -> tuple[float, float]:
    """The pixel (x, y) of a region that is nearest to its center of gravity."""
    rows, columns = np.nonzero(mask)
    distance = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
    nearest = int(distance.argmin())
    return float(columns[nearest]), float(rows[nearest])


def _draw_boxes(
    ax: Axes, objects: Objects, scores: NDArray[np.float32] | None, classes: Sequence[str]
) -> None:
    halo: list[AbstractPathEffect] = [withStroke(linewidth=2.4, foreground=style.PAPER)]
    for i, label in enumerate(objects.labels.tolist()):
        x1, y1, x2, y2 = objects.boxes[i].tolist()
        dashes = (0, (3, 2)) if objects.crowd[i] else "-"
        box = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=_color(label), lw=1.2, ls=dashes)
        box.set_path_effects(halo)
        ax.add_patch(box)
        text = classes[label] + (" (crowd)" if objects.crowd[i] else "")
        text += "" if scores is None else f" {scores[i]:.2f}"
        _write(ax, x1, y1, text, label, ha="left", va="bottom" if y1 > 10 else "top")


def _write(ax: Axes, x: float, y: float, text: str, label: int, ha: str, va: str) -> None:
    background = {"facecolor": style.PAPER, "edgecolor": _color(label), "lw": 0.6, "pad": 0.8}
    ax.text(x, y, text, size=5.5, color=style.INK, ha=ha, va=va, bbox=background, clip_on=True)


def _shown(context: Context) -> TrialResult | None:
    """The first training of the best network that kept its predictions."""
    best = context.ranking.best
    trials = () if best is None else context.results.network(best).trials
    return next((trial for trial in trials if trial.predictions is not None), None)


def _title(context: Context) -> str:
    trial = _shown(context)
    assert trial is not None, "the card applies only then"
    return f"Predictions of {context.ranking.best}, seed {trial.trial.seed}"


def _figure(context: Context) -> Figure:
    trial = _shown(context)
    assert trial is not None, "the card applies only then"
    assert trial.predictions is not None, "it was chosen for them"
    return figure(*read(trial.predictions))


PREDICTIONS = Card(
    name="predictions",
    title=_title,
    skip_reason=unless(_shown, "no training of the best network kept predictions"),
    figure=_figure,
    how_to_read=HOW_TO_READ,
)
