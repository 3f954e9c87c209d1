"""Options that name a family of networks, its switches and the values of its numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args, get_type_hints

import msgspec

from archsearch.api.keywords import InputErrors, evaluate_all, number_options, option
from archsearch.api.options import Numbers, parse_key_values, parse_whole_numbers
from archsearch.core.family import Family
from archsearch.core.numbers import quoted
from archsearch.families import DEFAULT, FORMS, as_stored, family_of
from archsearch.families.internimage import ORIGIN
from archsearch.networks import NetworkName, find_variant
from archsearch.space.grid import Space

AXES = tuple(name for name in ORIGIN.number_names() if name != ORIGIN.solved)

FAMILY_HELP = f"Use this family of networks: {FORMS}."


@dataclass(frozen=True, kw_only=True)
class FamilyOptions:
    """A family and the switches of its block."""

    family: str | type[Family] = option(
        "internimage", FAMILY_HELP, text=str, metavar="NAME|FILE.py:CLASS"
    )
    switches: Mapping[str, Any] | Sequence[str] | None = option(
        None,
        "Set one switch of the family's block; repeat the option to set more.",
        text=list[str],
        flag="--switch",
        metavar="KEY=VALUE",
    )

    def like(self, default: Family = ORIGIN) -> Family:
        """Return a template of the family with these switches; of InternImage ``default`` with
        them.

        Raises:
            ValueError: naming a wrong family, or every wrong switch.
        """
        family = family_of(self.family)
        changes = parse_switches(family, self.switches)
        return replace(default, **changes) if family is DEFAULT else family.template(**changes)  # type: ignore[type-var]


@dataclass(frozen=True, kw_only=True)
class SpaceOptions(FamilyOptions):
    """A family and the values of its numbers; InternImage's have options of their own."""

    values: Mapping[str, Numbers] | Sequence[str] | None = option(
        None,
        "Use these values of one number of the family, such as width=32,48; repeat the option, or "
        "add more after it, for other numbers.",
        text=list[str],
        flag="--set-axis",
        metavar="NAME=V,V",
    )
    own_values: Mapping[str, Numbers] = number_options(
        AXES, "Use these values of InternImage's {name} instead of the default, such as 16,32."
    )

    def space(self, default: Space, **only_internimage: str | None) -> Space:
        """Return the space of the family: the given values, else its default ones.

        ``default`` is InternImage's; ``only_internimage`` are further options that other families
        do not have.

        Raises:
            ValueError: naming every wrong option, and every number that lacks values.
        """
        like, given, own = evaluate_all(
            lambda: self.like(default.like),
            lambda: parse_axes(self.values),
            lambda: parse_whole_numbers(self.own_values),
        )
        family = type(like)
        if family is DEFAULT:
            if both := sorted(given.keys() & own.keys()):
                raise ValueError(f"two options give values of {', '.join(both)}: leave out one")
            return replace(default, like=like, values={**default.values, **given, **own})
        others = {name: value for name, value in only_internimage.items() if value is not None}
        refuse_internimage_options(family, {**own, **others})
        values = {**family.grid_values, **given}
        names = [n for n in family.number_names() if n != family.solved]
        if missing := [name for name in names if name not in values]:
            raise ValueError(
                f"{family.__name__} has no default values of {', '.join(missing)}: give each as in "
                f"--set-axis {missing[0]}=32,48 (in Python, values={{{missing[0]!r}: [32, 48]}})"
            )
        return Space(like, values)


def refuse_internimage_options(family: type[Family], names: Iterable[str]) -> None:
    """Refuse options of InternImage for another family.

    Raises:
        ValueError: naming all of them.
    """
    flags = [f"--{name.replace('_', '-')}" for name in names]
    if flags:
        verb = "is an option" if len(flags) == 1 else "are options"
        raise ValueError(
            f"{', '.join(flags)} {verb} of InternImage, and the family is {family.__name__}: use "
            f"its own numbers ({', '.join(family.number_names())})"
        )


def parse_axes(values: Mapping[str, Numbers] | Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """Return the values by number, from a mapping or texts such as ``width=32,48``.

    Raises:
        ValueError: naming every text of another form, and every number that is given twice.
    """
    if values is None or isinstance(values, Mapping):
        return parse_whole_numbers(values or {})
    names = [text.partition("=")[0].strip() for text in values]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"set-axis gives values of {', '.join(twice)} twice: give one list of each"
        )
    return parse_whole_numbers(parse_key_values(values, "set-axis", "NAME=V,V"))


def network_named(
    network: str | Family | type[Family],
    family: str | type[Family] = "internimage",
    switches: Mapping[str, Any] | Sequence[str] | None = None,
) -> Family:
    """Return the network of that name in a family, with these switches, or the given variant.

    Raises:
        ValueError: no network has that name; or a run's network or a variant is given together
            with a family or switches, which it has already.
    """
    if isinstance(network, type):
        raise ValueError(f"give a network of {network.__name__}: its name, or all of its numbers")
    is_default = family == "internimage" and not switches
    if isinstance(network, Family) or NetworkName.parse(network).run is not None:
        if not is_default:
            raise ValueError(f"a family and switches cannot be given for {network}: it has its own")
        return find_variant(network) if isinstance(network, str) else as_stored(network)
    if is_default:
        return find_variant(network)
    like = FamilyOptions(family=family, switches=switches).like()
    return type(like).parse(network, like)


def parse_switches(
    family: type[Family], switches: Mapping[str, Any] | Sequence[str] | None
) -> dict[str, Any]:
    """Return the switches with values of the types of their fields.

    Raises:
        ValueError: naming every switch that the family does not have, and every wrong value.
    """
    given: Mapping[str, Any] = switches if isinstance(switches, Mapping) else {}
    given = given or parse_key_values(switches, "switch")
    if not given:
        return {}
    known = ", ".join(family.switch_names) or "none"
    if unknown := [name for name in given if name not in family.switch_names]:
        raise InputErrors([f"{family.__name__} has no switch {n}; it has {known}" for n in unknown])
    hints = get_type_hints(family)
    calls = (partial(_switch_value, name, hints[name], value) for name, value in given.items())
    return dict(zip(given, evaluate_all(*calls), strict=True))


def _switch_value(name: str, kind: Any, value: Any) -> Any:
    if str(value).casefold() == "none" and type(None) in get_args(kind):
        return None
    try:
        return msgspec.convert(value, kind, strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        raise ValueError(f"switch {name}: {error}, got {quoted(value)}") from None
