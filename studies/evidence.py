"""Do the paper's four orderings hold in a study that is large enough to decide?

The design and the analysis were committed before the first training: see `evidence.md`. The two
runs below are trained together by ``python -m archsearch.benchmarks.evidence``.
"""

from archsearch.core.budget import Budget
from archsearch.core.cell import Cell
from archsearch.core.recipes import resolve
from archsearch.families.internimage import ORIGIN, Variant
from archsearch.space.grid import Space, plan
from archsearch.study import About, Study

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Section 3.2, supplement C.1 (Fig. A) and C.2 (Table C)",
    command="python -m archsearch.benchmarks.evidence --data cifar10",
    small="288 trainings of 2M to 4M on CIFAR-10, two minutes each: about 5 hours on two cores",
    full="the same at the paper's width, 300 epochs of ImageNet-1K each (Table B)",
)

BUDGET = Budget(2_200_000)
RECIPE = resolve(
    "quick",
    {
        "epochs": "6", "lr": "1e-3", "flip": "true", "crop": "pad",
        "val_fraction": "0.2", "data_fraction": "0.14",
    },
)  # fmt: skip
"""The recipe of the published grid with 10,000 images held out, and 5,600 to train on (there 3,000
and 5,640)."""

PAIRS_ORIGIN, PAIRS_PHI = Variant(8, 2, 1, 10), 3
PAIRS: dict[tuple[float, float], tuple[int, int, int, int]] = {
    (1.03, 1.40): (24, 2, 1, 11),
    (1.06, 1.38): (22, 2, 2, 10),
    (1.09, 1.36): (22, 2, 1, 14),
    (1.12, 1.34): (20, 2, 3, 10),
    (1.15, 1.32): (20, 2, 2, 14),
}
"""Table C's (alpha, beta) -> C1, C', L1, L3 of 2^3 times the origin's size, within 1%.

Each is the network of this size whose depth by width is closest to the pair's, with L1 up to 2 from
the origin's. They are five networks in the order of their depth by width; at phi = 2 rounding makes
two or more pairs equal from every origin that was counted (`evidence.md`)."""

NUM_SEEDS, NUM_SEEDS_OF_PAIRS = 12, 24


def stacking(*, data: str = "cifar10", seeds: tuple[int, ...] = tuple(range(NUM_SEEDS))) -> Study:
    """C' and L1 at C1 = 16, and C1 = 20 and 24 at C' = 4: 14 networks of one budget."""
    values = (
        {"c1": (16,), "group_channels": (4, 8), "l1": (1, 2, 3, 4, 5)},
        {"c1": (20, 24), "group_channels": (4,), "l1": (1, 2)},
    )
    return Study(
        name="evidence-stacking",
        question="Are C' = 4, L1 = 4 and the larger width better, as the paper says?",
        source=ABOUT.source,
        cells=tuple(c for v in values for c in plan(Space(ORIGIN, v), BUDGET, "error")),
        recipe=RECIPE,
        data=data,
        seeds=seeds,
        axes=ORIGIN.axes,
        budget=BUDGET,
    )


def pairs(
    *, data: str = "cifar10", seeds: tuple[int, ...] = tuple(range(NUM_SEEDS_OF_PAIRS))
) -> Study:
    """Table C's five (alpha, beta), all of one size."""
    cells = (
        Cell(
            requested={"alpha": alpha, "beta": beta, "phi": PAIRS_PHI},
            fate="repaired",
            variant=(variant := PAIRS_ORIGIN.with_numbers(*numbers)),
            cost=variant.cost(),
            reason=f"the network of equal size closest in depth by width, from {PAIRS_ORIGIN.name}",
        )
        for (alpha, beta), numbers in PAIRS.items()
    )
    return Study(
        name="evidence-table-c",
        question="At equal size, is (1.09, 1.36) the best (alpha, beta), as the paper says?",
        source=ABOUT.source,
        cells=tuple(cells),
        recipe=RECIPE,
        data=data,
        seeds=seeds,
    )
