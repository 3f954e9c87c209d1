"""What does a larger kernel of the operator cost, and does it improve the accuracy?"""

from dataclasses import replace

from archsearch.core.recipe import Recipe
from archsearch.paper.printed_sizes import TABLE_D
from archsearch.studies.sizes import SCALES, Size, cell
from archsearch.study import About, Study

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Supplement C.3 (Table D)",
    command="archsearch study kernel-size --seeds 3",
    small="three networks of 1M, 15 epochs of the digits: a few minutes on two cores",
    full="T with K = 3, 5 and 7, 300 epochs of ImageNet-1K each (Table B)",
)


def study(
    *, recipe: Recipe, data: str = "digits", seeds: tuple[int, ...] = (0,), size: Size = "small"
) -> Study:
    """Networks with K = 3, 5 and 7 in the operator and the depth-wise convolution (as Table D)."""
    origin = SCALES[size].origin
    cells = tuple(
        cell(
            {"kernel_size": kernel},
            replace(origin, kernel_size=kernel),
            params=params,
            FLOPs=macs,
            accuracy=accuracy,
        )
        for kernel, (params, macs, accuracy) in TABLE_D.items()
    )
    return Study(
        name="kernel-size",
        question=ABOUT.question,
        source=ABOUT.source,
        cells=cells,
        recipe=recipe,
        data=data,
        seeds=seeds,
        reports=("paper",),
    )
