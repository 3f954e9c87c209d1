"""What a study can train at all, before its data is read. This module imports no numpy or torch."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from archsearch.core.cell import Cell
from archsearch.core.closed_form import cost_of
from archsearch.core.plans import Search
from archsearch.families import template_from_dict
from archsearch.families.internimage_space import twelve_numbers
from archsearch.space.grid import Space
from archsearch.space.search_space import Domain
from archsearch.space.search_space import domain_of as domain_of_space
from archsearch.space.trainable import check_cells
from archsearch.study import Study
from archsearch.tasks.classification import CLASSIFICATION

MAX_LINES = 20
"""Of the cells that cannot be trained, a message lists so many."""


def check_networks(study: Study) -> None:
    """Check that the study has a network that can be trained, without its data.

    Raises:
        ValueError: no cell can be trained; or the networks of a user's family cannot be, or cost
            other than its closed form says.
    """
    cells = study.cells
    if isinstance(study.plan, Search):
        cells = (*cells, *_first_of_search(study, study.plan))
    elif all(cell.variant is None for cell in cells):
        raise ValueError(_none_can_be_trained(cells))
    check_cells(cells, study.recipe, classifies=study.task == CLASSIFICATION)


def _first_of_search(study: Study, plan: Search) -> Iterator[Cell]:
    """The first variant of a search as a cell, unless the tests check its family."""
    if not template_from_dict(plan.like).closed_form_is_tested:
        for variant in islice(domain_of(study, plan).variants(), 1):
            yield Cell(variant.by_name, "exact", variant, cost_of(variant))


def _none_can_be_trained(cells: Sequence[Cell]) -> str:
    lines = [f"\n  {_coordinates(cell)}: {cell.reason}" for cell in cells]
    left = len(lines) - MAX_LINES
    more = f"\n  and {left:,} more cells" if left > 0 else ""
    listed = "".join(lines[:MAX_LINES])
    return f"no cell can be trained, use other numbers or another budget:{listed}{more}"


def _coordinates(cell: Cell) -> str:
    return ", ".join(f"{name} = {value}" for name, value in cell.requested.items())


def domain_of(study: Study, plan: Search) -> Domain:
    """Return the domain that a search study searches.

    Raises:
        ValueError: the study has no budget.
    """
    if study.budget is None:
        raise ValueError("a search needs a budget: give the study one")
    budget = replace(study.budget, tolerance=plan.tolerance)
    if plan.over == "twelve":
        return twelve_numbers(budget)
    return domain_of_space(Space(template_from_dict(plan.like), plan.space), budget)
