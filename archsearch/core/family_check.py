"""What makes a class a family: a frozen dataclass of whole numbers, one of which is solved."""

import dataclasses
from collections.abc import Iterator
from dataclasses import MISSING, Field
from typing import Any

from archsearch.core.by_file import source_of
from archsearch.core.family import Family

RESERVED = ("family", "source")
"""Keys of stored variants beside their fields."""

WHOLE = (int, "int")

Problem = tuple[str, str]
"""The field or attribute that a problem is of ("" for the class), and the problem."""


def checked_family(cls: type[Family], where: str) -> type[Family]:
    """``cls``, if variants of it can be planned, stored and trained; ``where`` is its file or path.

    Raises:
        ValueError: it is no family; the message has every problem, with its line in a file.
    """
    problems = list(_class_problems(cls)) or list(_field_problems(cls))
    if not problems:
        return cls
    lines = [f"{_position(cls, name, where)}: {text}" for name, text in problems]
    if len(lines) == 1:
        raise ValueError(lines[0])
    raise ValueError(f"{cls.__name__} is no family:" + "".join(f"\n  - {line}" for line in lines))


def _position(cls: type[Family], name: str, where: str) -> str:
    source = source_of(cls)
    line = source and (source.line_of(cls.__name__, name) or source.line_of(cls.__name__))
    return f"{where}, line {line}" if line else where


def _class_problems(cls: type[Family]) -> Iterator[Problem]:
    params = vars(cls).get("__dataclass_params__")
    if params is None or not params.frozen:
        yield "", f"{cls.__name__} must be a frozen dataclass: put @dataclass(frozen=True) above it"
    if cls.build is Family.build:
        yield "", f"{cls.__name__} needs a method build(self, num_classes), which returns a network"


def _field_problems(cls: type[Family]) -> Iterator[Problem]:
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    numbers = [name for name in fields if name not in cls.switch_names]
    for field in fields.values():
        if text := _field_problem(field, field.name in cls.switch_names):
            yield field.name, text
    solved = getattr(cls, "solved", None)
    if not isinstance(solved, str):
        yield "", f'{cls.__name__} must say which number is solved, as in solved = "depth"'
    elif solved not in numbers:
        yield (
            "solved",
            f"solved is {solved!r}, which is no number of {cls.__name__}: {_has(numbers)}",
        )
    names = {"axes": cls.axes, "grid_values": tuple(cls.grid_values), "labels": tuple(cls.labels)}
    for attribute, used in names.items():
        allowed = numbers if attribute == "labels" else [n for n in numbers if n != solved]
        if unknown := [name for name in used if name not in allowed]:
            kinds = "a number" if attribute == "labels" else "a number that is not solved"
            yield attribute, f"{attribute} names {', '.join(unknown)}, not {kinds}: {_has(allowed)}"
    if unknown := [name for name in cls.switch_names if name not in fields]:
        yield "switch_names", f"switch_names names {', '.join(unknown)}: {_has(list(fields))}"


def _has(names: list[str]) -> str:
    return f"it has {', '.join(names) or 'none'}"


def _field_problem(field: Field[Any], is_switch: bool) -> str:
    name, kind = field.name, getattr(field.type, "__name__", field.type)
    if name in RESERVED:
        return f"a field cannot be called {name}, which stored files use: choose another name"
    if is_switch:
        has_default = field.default is not MISSING
        return "" if has_default else f"the switch {name} needs a default"
    if name in Family.__annotations__:
        return f"{name} is an attribute of the class: write {name} = ... without a type"
    if field.type in WHOLE:
        return ""
    return f"{name} is of type {kind}, but the numbers of a family are whole numbers: wanted int"
