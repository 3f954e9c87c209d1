"""How much of its accuracy does the network keep when it trains on 10% and 1% of the images?"""

from dataclasses import replace

from archsearch.core.recipe import Recipe
from archsearch.studies.deformable_attention import TABLE_H
from archsearch.studies.sizes import SCALES, Size, cell
from archsearch.study import About, Study

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Supplement F.4 (Table H)",
    command="archsearch study data-scale --seeds 3",
    small="three runs of two networks of 1M on the digits: a few minutes on two cores",
    full="three runs of T with either operator on ImageNet-1K, 300 epochs each (Table B)",
)

SHARES = (0.01, 0.1, 1.0)


def studies(
    *, recipe: Recipe, data: str = "digits", seeds: tuple[int, ...] = (0,), size: Size = "small"
) -> tuple[Study, ...]:
    """One study per share of the training set, as a study has one recipe, which holds the share.

    Shares are stratified by class and nested (`archsearch.training.data.split`), and all are
    measured on the same validation images. As in the paper the number of epochs is constant, so
    fewer images also mean fewer steps.
    """
    return tuple(_study(share, recipe, data, seeds, size) for share in SHARES)


def _study(share: float, recipe: Recipe, data: str, seeds: tuple[int, ...], size: Size) -> Study:
    origin = SCALES[size].origin
    cells = tuple(
        cell({"operator": operator}, replace(origin, operator=operator), accuracy=by_share[share])
        for operator, by_share in TABLE_H.items()
    )
    return Study(
        name=f"data-scale-{100 * share:g}-percent",
        question=ABOUT.question,
        source=ABOUT.source,
        cells=cells,
        recipe=replace(recipe, data_fraction=share),
        data=data,
        seeds=seeds,
        reports=("paper", "data-scale"),
    )
