"""The exponent of InternImage's width in ``alpha * beta^1.99 ~ 2``, counted in several ways."""

from typing import Protocol

from archsearch.families import compound_scaling
from archsearch.families.compound_scaling import Scalable
from archsearch.families.internimage_cost import count, count_parts, operator_macs
from internimage.config import ModelConfig


class Configured(Scalable, Protocol):
    """A variant that this module counts in parts."""

    def config(self) -> ModelConfig: ...


def exponent(
    origin: Configured, axis: str = "params", *, classifier: bool = True, operator: bool = True
) -> float:
    """The exponent of the width: log2 of the cost ratio when C1 doubles at constant depth.

    This is the 1.99 of ``alpha * beta^1.99 ~ 2``. From T: parameters 1.977, without the last Linear
    (``classifier=False``) 1.995; multiply-adds 1.981, without the operator's samples
    (``operator=False``) 1.995. The paper does not say which of these its 1.99 is.
    """
    return compound_scaling.exponent(
        origin, lambda variant: _measure(variant.config(), axis, classifier, operator)
    )


def _measure(config: ModelConfig, axis: str, classifier: bool, operator: bool) -> int:
    cost, last = count(config), count_parts(config)["classifier"]
    if axis == "params":
        return cost.params - (0 if classifier else last.params)
    samples = 0 if operator else operator_macs(config)
    return cost.macs - samples - (0 if classifier else last.macs)
