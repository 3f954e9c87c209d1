"""Classes that stored files name by import path: ``package.module:Class``.

User-defined families and tasks need no registration. A study file stores the import path of the
class beside its fields, and reading the file imports the class.
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
        ValueError: the import fails, or ``path`` does not name a subclass of ``base``.
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
