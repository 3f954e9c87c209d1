"""Options as keyword-only dataclasses, shared by the Python calls and the commands.

An option is a dataclass field with a default and one sentence of help. `signature_of` turns several
dataclasses into one signature, and `from_options` builds a dataclass from the values of a call.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, field, fields
from inspect import Parameter, Signature
from typing import Any, TypeVar, get_args, get_type_hints

T = TypeVar("T")


def option(
    default: Any, help: str, *, text: type | None = None, flag: str = "", metavar: str = ""
) -> Any:
    """Return a field with its help; ``text`` is its type on the command line, if that differs."""
    meta = {"help": help, "text": text, "flag": flag, "metavar": metavar}
    return field(default=default, metadata=meta)


def number_options(names: Iterable[str], help: str) -> Any:
    """Return a field for one option per name; each takes a list of whole numbers.

    Use it for the numbers of a family. The field holds a mapping of the options that were set. In
    ``help``, ``{name}`` is replaced by the name of an option.
    """
    return field(default_factory=dict, metadata={"help": help, "names": tuple(names)})


def options_of(*kinds: type) -> dict[str, tuple[Field[Any], Any]]:
    """Return the field and the type of every option of the dataclasses, by keyword."""
    options: dict[str, tuple[Field[Any], Any]] = {}
    for kind in kinds:
        hints = get_type_hints(kind)
        for one in fields(kind):
            names, hint = one.metadata.get("names"), hints[one.name]
            if names is None:
                options[one.name] = (one, hint)
            else:  # a mapping of options: the type of its values
                options |= dict.fromkeys(names, (one, get_args(hint)[1] | None))
    return options


def signature_of(*kinds: type) -> Signature:
    """Return the signature of a call that takes every option of the dataclasses as a keyword."""
    return Signature(
        [
            Parameter(name, Parameter.KEYWORD_ONLY, default=default_of(one), annotation=kind)
            for name, (one, kind) in options_of(*kinds).items()
        ]
    )


def default_of(one: Field[Any]) -> Any:
    """Return an option's default: None for number lists, `Parameter.empty` if it has none."""
    if "names" in one.metadata:
        return None
    return Parameter.empty if one.default is MISSING else one.default


def from_options(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a dataclass from those ``values`` that are its options."""
    chosen: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        if names := one.metadata.get("names"):
            lists = {name: values.get(name) for name in names}
            chosen[one.name] = {name: value for name, value in lists.items() if value is not None}
        elif one.name in values:
            chosen[one.name] = values[one.name]
    return kind(**chosen)


def check_keywords(values: Mapping[str, Any], *kinds: type) -> None:
    """Refuse keywords that none of the dataclasses has.

    Raises:
        TypeError: naming the unknown keywords, as Python does for any call.
    """
    if unknown := sorted(values.keys() - options_of(*kinds).keys()):
        raise TypeError(f"no such option: {', '.join(unknown)}")


def evaluate_all(*calls: Callable[[], Any]) -> tuple[Any, ...]:
    """Return the values of all calls; if some fail, report all of their errors together.

    Raises:
        ValueError: with every error, each on its own line if there are several.
    """
    values, errors = [], []
    for call in calls:
        try:
            values.append(call())
        except InputErrors as several:
            errors += several.errors
        except ValueError as error:
            errors.append(str(error))
    if errors:
        raise InputErrors(errors)
    return tuple(values)


class InputErrors(ValueError):
    """One or more errors in one input."""

    def __init__(self, errors: list[str]) -> None:
        self.errors = errors
        lines = "".join(f"\n  - {error}" for error in errors)
        super().__init__(errors[0] if len(errors) == 1 else f"{len(errors)} errors:{lines}")
