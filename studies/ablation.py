"""What does each of DCNv3's changes to DCNv2 contribute: shared weights, groups, softmax?"""

from dataclasses import replace

from archsearch.core.recipe import Recipe
from archsearch.families.internimage import FreeVariant, InternImageFamily, Variant
from archsearch.studies.sizes import SCALES, Size, cell
from archsearch.study import About, Study

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Section 4.4 (Table 6)",
    command="archsearch study ablation --seeds 3",
    small="four networks of 1M, 15 epochs of the digits: a few minutes on two cores",
    full="four variants of T, 300 epochs of ImageNet-1K each (Table B)",
)

TABLE_6 = {"nothing": 83.5, "shared weights": 83.6, "multi-group": 82.3, "softmax": 65.7}
"""What is removed -> ImageNet-1K top-1 in percent, as printed."""


def study(
    *, recipe: Recipe, data: str = "digits", seeds: tuple[int, ...] = (0,), size: Size = "small"
) -> Study:
    """DCNv3, and DCNv3 with one of its changes removed at a time."""
    origin = SCALES[size].origin
    cells = tuple(
        cell({"removed": change}, without(origin, change), accuracy=accuracy)
        for change, accuracy in TABLE_6.items()
    )
    return Study(
        name="ablation",
        question=ABOUT.question,
        source=ABOUT.source,
        cells=cells,
        recipe=recipe,
        data=data,
        seeds=seeds,
        reports=("paper", "gradients"),
    )


def without(variant: Variant, change: str) -> InternImageFamily:
    """``variant`` with one of DCNv3's changes removed; unchanged for ``nothing``.

    Raises:
        KeyError: ``change`` is not a key of `TABLE_6`.
    """
    variants: dict[str, InternImageFamily] = {
        "nothing": variant,
        "shared weights": replace(variant, operator="dcnv3-unshared"),
        "multi-group": one_group(variant),
        "softmax": replace(variant, operator="dcnv3-sigmoid"),
    }
    return variants[change]


def one_group(variant: Variant) -> FreeVariant:
    """``variant`` with one group in every layer. Rule 2 forbids it, as C' then differs by stage."""
    config = variant.config()
    return FreeVariant(
        channels=config.channels,
        groups=(1, 1, 1, 1),
        depths=config.depths,
        **variant.switches,
    )
