"""Costs of variants without a closed form: counted on the meta device, and kept on disk.

What was kept is found by content: the source of the family, its numbers and switches, the image
size, the classes and the version of torch. This module imports torch only to count.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

from archsearch.core.cost import Cost, image_size
from archsearch.core.cost_cache import CostCache, cache_of
from archsearch.core.family_fault import BuildFault, fault_text
from archsearch.core.source_digest import source_digest

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("archsearch")

Values = Mapping[str, Any]


class Buildable(Protocol):
    """What is counted of a variant."""

    def build(self, num_classes: int) -> "nn.Module": ...
    def params(self) -> dict[str, Any]: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Build:
    """A call that builds the network of a variant; equal for equal variants."""

    variant: Buildable
    num_classes: int

    def __call__(self) -> "nn.Module":
        return self.variant.build(self.num_classes)


def counted_cost(variant: Buildable, height: int, width: int, num_classes: int) -> Cost:
    """The cost of the built network; notes on doubts are logged once for each family.

    Raises:
        BuildFault: the network cannot be built or run.
    """
    values = counted(variant, height, width, num_classes)
    for note in values["notes"]:
        _say_once(type(variant).__name__, note)
    size = image_size(height, width)
    return Cost(values["params"], values["macs"], values["activations"], size)


def counted(variant: Buildable, height: int, width: int, num_classes: int) -> Values:
    """As `counted_cost`: ``params``, ``macs``, ``activations``, ``is_complete`` and ``notes``."""

    def count() -> Values:
        from archsearch.core.meta_cost import count

        counted = count(Build(variant, num_classes), height, width)
        doubts = {"is_complete": counted.is_complete, "notes": counted.notes}
        return {**asdict(counted.cost), **doubts}

    return kept(variant, f"cost {height}x{width} {num_classes}", count)


Layers = Mapping[str, tuple[int, int, int]]
"""Multiply-adds, output elements and calls of operators by name, as of `OperatorCounter`."""


def counted_layers(variant: Buildable, height: int, width: int, num_classes: int) -> Layers:
    """The layers of the built network for one image, whether or not its cost has a closed form.

    Raises:
        BuildFault: the network cannot be built or run.
    """

    def count() -> Values:
        from archsearch.core.meta_cost import count

        return count(Build(variant, num_classes), height, width).layers

    return kept(variant, f"layers {height}x{width} {num_classes}", count)


def counted_params(variant: Buildable, num_classes: int) -> int:
    """The parameters of the built network; raises as `counted_cost`."""

    def count() -> Values:
        from archsearch.core.meta_cost import count_params

        return {"params": count_params(Build(variant, num_classes))}

    return int(kept(variant, f"params {num_classes}", count)["params"])


def kept(variant: Buildable, what: str, count: Callable[[], Values]) -> Values:
    """The values of ``what`` that are kept for this variant, else those that ``count`` returns.

    Raises:
        BuildFault: ``count`` cannot build or run the network.
    """
    cache = _cache_of(type(variant))
    key = f"{what} {json.dumps(variant.params(), sort_keys=True, default=repr)}"
    if (values := cache.get(key)) is None:
        values = _counted(variant, count)
        cache.add(key, values)
    return values


def _counted(variant: Buildable, count: Callable[[], Values]) -> Values:
    from archsearch.core.meta_cost import NetworkError

    try:
        return count()
    except NetworkError as error:
        text = fault_text(type(variant), error.stage, variant.name, error.cause)
        raise BuildFault(text) from error.cause


def _cache_of(cls: type) -> CostCache:
    digest = source_digest(cls)
    if digest is None:
        return _in_memory(cls)
    return cache_of(f"{cls.__qualname__}-{digest[:32]}-torch-{_torch_version()}")


@cache
def _in_memory(cls: type) -> CostCache:
    del cls
    return CostCache(None)


@cache
def _torch_version() -> str:
    return metadata.version("torch")


@cache
def _say_once(family: str, note: str) -> None:
    log.warning("%s: %s", family, note)
