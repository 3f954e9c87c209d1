"""The cost of a variant, in closed form if its family has one, with the user's errors explained."""

from archsearch.core.budget import Axis
from archsearch.core.cost import Cost
from archsearch.core.counted_cost import counted_params
from archsearch.core.family import Family
from archsearch.core.family_fault import FamilyFault, explained

NUM_CLASSES = 1000
"""Classes of the paper's counting, by which budgets are."""


def has_closed_form(family: type[Family]) -> bool:
    """Whether the family computes its costs itself; else the built network is counted."""
    return family.cost is not Family.cost


def cost_of(
    variant: Family, height: int = 224, width: int | None = None, num_classes: int = NUM_CLASSES
) -> Cost:
    """The cost for one image, square by default.

    Raises:
        FamilyFault: the closed form raises an error or returns no `Cost`.
        BuildFault: there is none, and the network cannot be built or run.
    """
    with explained(type(variant), "cost", variant.name):
        cost = variant.cost(height, width or height, num_classes)
    if not isinstance(cost, Cost):
        name = type(variant).__name__
        raise FamilyFault(f"{name}.cost returns {cost!r}, wanted an archsearch.core.cost.Cost")
    return cost


def size_of(variant: Family, axis: Axis) -> int:
    """The cost on one axis of a budget; raises as `cost_of`.

    Parameters are counted without a forward pass.
    """
    if axis == "params" and not has_closed_form(type(variant)):
        return counted_params(variant, NUM_CLASSES)
    return int(getattr(cost_of(variant), axis))
