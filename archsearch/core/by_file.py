"""Classes in a user's file: ``my_net.py:Net``, known by the content of the file.

A file is executed once per content, as a module whose name holds the hash of the content. So the
class of a stored variant is found by the hash, wherever the file lies and however it was edited
since. One file is all: it may import installed packages, but no neighboring file.
"""

import ast
import hashlib
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")

PREFIX = "archsearch_file_"
"""Begins the names of the modules that hold executed files."""

DIGITS = 12
"""Of the hash in the name of a copy; the stored variants have all of it."""

_SOURCE = "__archsearch_source__"


@dataclass(frozen=True)
class Source:
    """The name of a file, without its folder, and its content."""

    name: str
    content: bytes

    @cached_property
    def digest(self) -> str:
        """The sha256 of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def module(self) -> str:
        return module_name(self.name, self.digest)

    def line_of(self, class_name: str, field: str = "") -> int | None:
        """The line where a class, or a field of it, is defined at the top level of the file."""
        for node in ast.parse(self.content).body:
            if isinstance(node, ast.ClassDef) and node.name == class_name:
                lines = {_target(item): item.lineno for item in node.body}
                return lines.get(field) if field else node.lineno
        return None


def _target(node: ast.stmt) -> str:
    """The name that a statement in the body of a class assigns or annotates; "" for others."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return next((target.id for target in targets if isinstance(target, ast.Name)), "")


def module_name(file_name: str, digest: str) -> str:
    """The name of the module of a file's content."""
    return f"{PREFIX}{file_name.removesuffix('.py').replace('.', '_')}_{digest}"


def read_source(path: Path) -> Source:
    """The content of a user's file; that of a run's copy has the name of the original.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        source = Source(path.name, path.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    stem = path.stem.rpartition("-")[0]
    is_copy = stem and copy_name(f"{stem}.py", source.digest) == path.name
    return Source(f"{stem}.py", source.content) if is_copy else source


def copy_name(file_name: str, digest: str) -> str:
    """The name of a run's copy of a file: ``my_net-0123456789ab.py``."""
    return f"{file_name.removesuffix('.py')}-{digest[:DIGITS]}.py"


def execute(source: Source, path: Path) -> ModuleType:
    """The module of a file's content, executed unless it was before; ``path`` is for errors.

    Raises:
        ValueError: the file is no Python or raises an error; the message names the line.
    """
    if (module := sys.modules.get(source.module)) is not None:
        return module
    module = ModuleType(source.module)
    module.__file__ = str(path)
    sys.modules[source.module] = module  # dataclasses look their module up
    try:
        exec(_compiled(source, path), module.__dict__)
    except (Exception, SystemExit) as error:
        raise ValueError(error_text(error, path)) from error
    finally:
        sys.modules.pop(source.module)
    setattr(module, _SOURCE, source)
    return sys.modules.setdefault(source.module, module)


def _compiled(source: Source, path: Path) -> Any:
    return compile(source.content, str(path), "exec", dont_inherit=True)


def error_text(error: BaseException, path: Path) -> str:
    """Where in a user's file an error is, and what it says."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    where = f"{path}, line {lines[-1]}" if lines else f"{path}"
    advice = ""
    if isinstance(error, ImportError):
        advice = ": one file is all of a family, and it can import installed packages only"
    kind = "ValueError" if isinstance(error, ValueError) else type(error).__name__
    return f"{where}: {kind}: {error}{advice}"


def source_of(cls: type) -> Source | None:
    """The file that defines the class, if it was executed here.

    Raises:
        ValueError: the file is being executed: what it calls at its top level uses the class.
    """
    if not cls.__module__.startswith(PREFIX):
        return None
    source = getattr(sys.modules.get(cls.__module__), _SOURCE, None)
    if source is None:
        raise ValueError(
            f"{cls.__qualname__} is used while its own file is read: put the calls of that file "
            'below `if __name__ == "__main__":`'
        )
    assert isinstance(source, Source)
    return source


def executed_class(file_name: str, digest: str, name: str) -> Any:
    """What an executed file of this name and content calls ``name``; None if there is none."""
    return getattr(sys.modules.get(module_name(file_name, digest)), name, None)


def class_in(source: Source, path: Path, name: str, base: type[T]) -> type[T]:
    """The subclass of ``base`` called ``name`` in a file.

    Raises:
        ValueError: as `execute`; or there is no such class, and the message says which there are.
    """
    module = execute(source, path)
    value = getattr(module, name, None) if name.isidentifier() else None
    if isinstance(value, type) and issubclass(value, base):
        return value
    own = [n for n, v in vars(module).items() if _is_own(v, module, base)]
    has = f"its own are {', '.join(own)}" if own else "it has none"
    line = source.line_of(name)
    where = f"{path}, line {line}: {name} is no" if line else f"{path} has no"
    called = "" if line else f" called {name}"
    raise ValueError(f"{where} {base.__name__}{called}; {has}")


def _is_own(value: object, module: ModuleType, base: type) -> bool:
    is_class = isinstance(value, type) and issubclass(value, base)
    return is_class and value.__module__ == module.__name__


def restored(source: Source, name: str, values: Mapping[str, Any]) -> Any:
    """An instance of a class in a file with these attributes, for `pickle` in another process."""
    cls = class_in(source, Path(source.name), name, object)
    instance = object.__new__(cls)
    vars(instance).update(values)
    return instance
