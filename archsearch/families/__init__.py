"""Network families: how they are named and stored, their variants, costs and networks."""

import sys
from collections.abc import Mapping
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any

from archsearch.core.by_file import class_in, executed_class, read_source, source_of
from archsearch.core.by_path import class_at, path_of
from archsearch.core.family import Family, family_to_dict
from archsearch.core.family_check import RESERVED, checked_family
from archsearch.families import internimage

SHIPPED: Mapping[str, str] = {
    "internimage": "archsearch.families.internimage:Variant",
    "convnext": "archsearch.families.convnext:ConvNeXt",
    "vit": "archsearch.families.vit:ViT",
}
"""The families of this package by name, with their import paths; each is imported when named."""

DEFAULT: type[Family] = internimage.Variant
"""The family where none is named."""

FORMS = f"{', '.join(SHIPPED)}, FILE.py:Class or package.module:Class"
"""How a family is named."""


def family_named(text: str) -> type[Family]:
    """The family of a shipped name (``convnext``), at ``my_net.py:Net``, or ``package.module:Net``.

    A file is executed once per content; its path is relative to the current folder, or absolute.

    Raises:
        ValueError: no family has that name, its file raises an error, or it is no family; the
            message has every problem, with the line in a file.
    """
    name = text.strip()
    path = SHIPPED.get(name.lower(), name)
    place, colon, class_name = path.rpartition(":")
    if place.endswith(".py"):
        return _in_file(Path(place).expanduser(), class_name)
    if not colon:
        raise ValueError(f"a family is {FORMS}, got {text!r}")
    return checked_family(class_at(path, Family), path)


def _in_file(path: Path, class_name: str) -> type[Family]:
    family = class_in(read_source(path), path, class_name, Family)
    return checked_family(family, str(path))


def family_of(family: str | type[Family]) -> type[Family]:
    """The family of that name, or the class itself, as other processes can find it.

    A class of the running script is that of the script's file.

    Raises:
        ValueError: as `family_named`; or other processes cannot find the class.
    """
    if isinstance(family, str):
        return family_named(family)
    if not (isinstance(family, type) and issubclass(family, Family)):
        raise ValueError(f"a family is {FORMS}, or a subclass of archsearch.Family, got {family!r}")
    name = family.__qualname__
    if not name.isidentifier():
        raise ValueError(f"{name} must be defined at the top level of its file, to be found there")
    if family.__module__ == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None)
        if file is None or not Path(file).is_file():
            raise ValueError(
                f"{name} has no file, so no other process can find it: write it to a file such as "
                f'my_net.py (%%writefile in a notebook), and give "my_net.py:{name}"'
            )
        return _in_file(Path(file), name)
    source = source_of(family)
    return checked_family(family, source.name if source else family.__module__)


def as_stored(variant: Family) -> Family:
    """The variant as a class that other processes can find; raises as `family_of`."""
    cls = type(variant)
    return variant if cls.__module__ != "__main__" else family_of(cls)(**vars(variant))


def short_name(family: type[Family]) -> str:
    """The name of a family in the names of studies: ``convnext``, or that of the class."""
    return next((n for n, path in SHIPPED.items() if path == path_of(family)), family.__name__)


def variant_from_dict(values: Mapping[str, Any]) -> Family:
    """The variant that `archsearch.core.family.variant_to_dict` wrote.

    Values without the name of a family are an InternImage.

    Raises:
        ValueError: the family cannot be found, fields are missing or unknown, or the numbers
            break a rule.
    """
    if "family" not in values:
        return internimage.variant_from_dict(values)
    family = stored_family(values)
    try:
        return family(**{name: value for name, value in values.items() if name not in RESERVED})
    except TypeError as error:
        raise ValueError(f"not a variant of {values['family']}: {error}") from None


def template_to_dict(like: Family) -> dict[str, Any]:
    """The family and the switches of ``like`` as plain JSON values; of InternImage only those that
    are not the origin's."""
    stored = family_to_dict(type(like))
    origin = {} if stored else internimage.ORIGIN.switches
    changed = {name: v for name, v in like.switches.items() if origin.get(name, MISSING) != v}
    return {**stored, **changed}


def template_from_dict(values: Mapping[str, Any]) -> Family:
    """The template that `template_to_dict` wrote; raises as `stored_family`."""
    switches = {name: value for name, value in values.items() if name not in RESERVED}
    if "family" in values:
        return stored_family(values).template(**switches)
    return replace(internimage.ORIGIN, **switches)


def stored_family(values: Mapping[str, Any]) -> type[Family]:
    """The family that stored values name; that of a file was executed before, by its hash.

    Raises:
        ValueError: it cannot be found.
    """
    path, digest = str(values["family"]), values.get("source")
    if digest is None:
        return class_at(path, Family)
    file, _, name = path.rpartition(":")
    family = executed_class(file, str(digest), name)
    if not (isinstance(family, type) and issubclass(family, Family)):
        raise ValueError(f"the file of the family {path} was not read (sha256 {digest})")
    return family
