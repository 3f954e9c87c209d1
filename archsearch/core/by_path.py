"""Classes that stored files name by import path: ``package.module:Class``.

A family or a task of a user's own needs no registration: a study file holds the import path of its
class beside its fields, and whoever reads the file imports it.
"""

from importlib import import_module
from typing import TypeVar

T = TypeVar("T")


def path_of(cls: type) -> str:
    """The import path of a class, such as ``archsearch.tasks.classification:Classification``."""
    return f"{cls.__module__}:{cls.__qualname__}"


def class_at(path: str, base: type[T]) -> type[T]:
    """The subclass of ``base`` that ``path`` names.

    Raises:
        ValueError: nothing can be imported under that path, or it is no subclass of ``base``.
    """
    module, colon, name = path.partition(":")
    problem = "wanted package.module:Class"
    if colon and name.isidentifier():
        try:
            value = getattr(import_module(module), name, None)
        except ImportError as error:
            problem = str(error)
        else:
            if isinstance(value, type) and issubclass(value, base):
                return value
            problem = f"{module} has no {base.__name__} called {name}"
    raise ValueError(f"cannot load the {base.__name__.lower()} {path!r}: {problem}")
