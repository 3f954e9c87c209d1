"""Choose a vision architecture under a budget, and a scaling rule you can trust, by real training.

>>> import archsearch as a
>>> run = a.grid(budget="1M", c1=[8, 16], seeds=2)  # trains; repeat the call to resume
>>> run.best.model()                                # the best network, with its weights

Importing this package loads nothing else. Each name below loads what it needs when it is first
used; torch is loaded only by calls that train or build a network.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archsearch.api.calls import (
        compare,
        count,
        downstream,
        evaluate,
        grid,
        load,
        run,
        scale,
        search,
        train,
    )
    from archsearch.api.power import power
    from archsearch.api.run import Run
    from archsearch.core.family import Family
    from archsearch.core.task import Task
    from archsearch.study import Study

_MODULES = {
    "Family": "core.family", "Run": "api.run", "Study": "study", "Task": "core.task",
    "power": "api.power",
}  # fmt: skip
"""Name -> its module; the other calls are in `api.calls`."""

__all__ = [
    "Family",
    "Run",
    "Study",
    "Task",
    "compare",
    "count",
    "downstream",
    "evaluate",
    "grid",
    "load",
    "power",
    "run",
    "scale",
    "search",
    "train",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("archsearch")
    if name not in __all__:
        raise AttributeError(f"module 'archsearch' has no attribute {name!r}")
    return getattr(import_module(f"archsearch.{_MODULES.get(name, 'api.calls')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
