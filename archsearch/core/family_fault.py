"""Faults of a user's family: a method that raises an error, or returns something else."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archsearch.core.by_file import error_text


class FamilyFault(ValueError):
    """Raised if a method of a family fails; the message names the line in its file."""


class BuildFault(FamilyFault):
    """Raised if a variant has no network that runs: its cell is infeasible, others are not."""


@contextmanager
def explained(
    cls: type, method: str, where: str, passing: type[ValueError] = FamilyFault
) -> Iterator[None]:
    """A context in which an error is a `FamilyFault` of ``method`` for the variant ``where``.

    Errors of the type ``passing`` are raised as they are.
    """
    try:
        yield
    except passing:
        raise
    except Exception as error:
        raise FamilyFault(fault_text(cls, method, where, error)) from error


def fault_text(cls: type, method: str, where: str, error: BaseException) -> str:
    """``Net 8-2: rules fails: my_net.py, line 9: ZeroDivisionError: division by zero``."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    text = error_text(error, Path(file)) if file else f"{type(error).__name__}: {error}"
    return f"{cls.__name__} {where}: {method} fails: {text.strip().splitlines()[0]}"
