"""Does DCNv3 learn better than deformable attention?"""

from dataclasses import replace

from archsearch.core.recipe import Recipe
from archsearch.studies.sizes import SCALES, Size, cell
from archsearch.study import About, Study
from internimage.config import Operator

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Supplement F.4 (Table H, InternImage-T-dattn)",
    command="archsearch study deformable-attention --seeds 3",
    small="two networks of 1M, 15 epochs of the digits: a minute on two cores",
    full="two variants of T, 300 epochs of ImageNet-1K each (Table B)",
)

TABLE_H: dict[Operator, dict[float, float]] = {
    "dcnv3": {0.01: 5.9, 0.1: 56.0, 1.0: 83.5},
    "deformable-attention": {0.01: 4.1, 0.1: 49.9, 1.0: 81.9},
}
"""Core operator -> share of ImageNet-1K's training set -> top-1 in percent, as printed."""


def study(
    *, recipe: Recipe, data: str = "digits", seeds: tuple[int, ...] = (0,), size: Size = "small"
) -> Study:
    """The same network with either core operator, on the full training set."""
    origin = SCALES[size].origin
    cells = tuple(
        cell({"operator": operator}, replace(origin, operator=operator), accuracy=by_share[1.0])
        for operator, by_share in TABLE_H.items()
    )
    return Study(
        name="deformable-attention",
        question=ABOUT.question,
        source=ABOUT.source,
        cells=cells,
        recipe=recipe,
        data=data,
        seeds=seeds,
        reports=("paper",),
    )
