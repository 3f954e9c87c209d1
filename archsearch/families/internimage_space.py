"""Design spaces of InternImage: the paper's printed grids and the default search space."""

from archsearch.core.budget import Budget
from archsearch.core.family import Family
from archsearch.families.internimage import ORIGIN, FreeVariant
from archsearch.space.grid import Space
from archsearch.space.search_space import Choice, Domain

MAIN = Space(ORIGIN, ORIGIN.grid_values)

SPACES = {"main": MAIN, "supplement": MAIN.with_values(c1=(16, 32, 64))}
"""The two printed discretizations: Section 3.2 and supplement C.1."""

SEARCH_SPACE = MAIN.with_values(c1=tuple(range(32, 129, 16)), l1=tuple(range(1, 9)))
"""The default search space, wider than the grid, which has three widths and five values of L1."""


def named_space(name: str) -> Space:
    """The space of that name in `SPACES`.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in SPACES:
        raise ValueError(f"space must be one of {', '.join(SPACES)}, got {name!r}")
    return SPACES[name]


def twelve_numbers(budget: Budget) -> Domain:
    """The search domain without the stacking rules: all of C_i, G_i and L_i are free.

    C_i takes 2/4 to 6/4 of the origin's width in steps of 1/4, rounded to multiples of the widest
    group. G_i is chosen as 16 or 32 channels per group, so that it divides C_i. L1, L2 and L4 go up
    to 8; L3 takes any value that meets the budget.
    """
    choices: dict[str, tuple[int, ...]] = {}
    for i, c in enumerate(ORIGIN.config().channels, 1):
        widths = {max(1, round(c * part / 4 / 32)) * 32 for part in range(2, 7)}
        choices[f"c{i}"] = tuple(sorted(widths))
        choices[f"group_channels_{i}"] = (16, 32)
    choices |= {name: tuple(range(1, 9)) for name in ("l1", "l2", "l4")}

    def smallest(choice: Choice) -> Family:
        c1, c2, c3, c4 = (choice[f"c{i}"] for i in range(1, 5))
        w1, w2, w3, w4 = (choice[f"group_channels_{i}"] for i in range(1, 5))
        return FreeVariant(
            channels=(c1, c2, c3, c4),
            groups=(c1 // w1, c2 // w2, c3 // w3, c4 // w4),
            depths=(choice["l1"], choice["l2"], 1, choice["l4"]),
            **ORIGIN.switches,
        )

    return Domain(choices, smallest, budget)
