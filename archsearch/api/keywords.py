"""Options as keyword-only dataclasses, spread into the keywords of a call or a command.

An option is a field of a dataclass with a default and one sentence of help. `spread` makes one
signature of several dataclasses, and `gather` puts the values of a call back into them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, field, fields
from inspect import Parameter, Signature
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def option(
    default: Any, help: str, *, text: type | None = None, flag: str = "", metavar: str = ""
) -> Any:
    """A field with its help; ``text`` is the type that a command line has for it, if another."""
    meta = {"help": help, "text": text, "flag": flag, "metavar": metavar}
    return field(default=default, metadata=meta)


def numbers(names: Iterable[str], help: str) -> Any:
    """A field that is one option per name, each a list of whole numbers; a mapping of those given.

    For the numbers of a family, whose names only the family knows.
    """
    return field(default_factory=dict, metadata={"help": help, "names": tuple(names)})


def parameters(*kinds: type) -> dict[str, tuple[Field[Any], Any]]:
    """Every option of the dataclasses by its keyword, with its type."""
    found: dict[str, tuple[Field[Any], Any]] = {}
    for kind in kinds:
        hints = get_type_hints(kind)
        for one in fields(kind):
            names = one.metadata.get("names", (one.name,))
            found |= dict.fromkeys(names, (one, hints[one.name]))
    return found


def spread(*kinds: type) -> Signature:
    """The signature of a call that takes every option of the dataclasses as a keyword."""
    return Signature(
        [
            Parameter(name, Parameter.KEYWORD_ONLY, default=default_of(one), annotation=kind)
            for name, (one, kind) in parameters(*kinds).items()
        ]
    )


def default_of(one: Field[Any]) -> Any:
    """The default of an option; None for a list of numbers, `Parameter.empty` where needed."""
    if "names" in one.metadata:
        return None
    return Parameter.empty if one.default is MISSING else one.default


def gather(kind: type[T], values: Mapping[str, Any]) -> T:
    """The dataclass with those of the values that are options of it."""
    chosen: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        if names := one.metadata.get("names"):
            given = {name: values.get(name) for name in names}
            chosen[one.name] = {name: value for name, value in given.items() if value is not None}
        elif one.name in values:
            chosen[one.name] = values[one.name]
    return kind(**chosen)


def check(values: Mapping[str, Any], *kinds: type) -> None:
    """Refuse keywords that no dataclass has.

    Raises:
        TypeError: naming them, as Python does for any call.
    """
    if unknown := sorted(values.keys() - parameters(*kinds).keys()):
        raise TypeError(f"no such option: {', '.join(unknown)}")


def together(*builds: Callable[[], Any]) -> tuple[Any, ...]:
    """The values of all, so that the user hears at once of everything that is wrong.

    Raises:
        ValueError: with every problem, on a line of its own when there are several.
    """
    values, problems = [], []
    for build in builds:
        try:
            values.append(build())
        except Problems as several:
            problems += several.problems
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise Problems(problems)
    return tuple(values)


class Problems(ValueError):
    """Several things that are wrong with one input."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        lines = "".join(f"\n  - {problem}" for problem in problems)
        several = f"{len(problems)} things are wrong:{lines}"
        super().__init__(problems[0] if len(problems) == 1 else several)
