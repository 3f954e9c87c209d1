"""Network families: their variants, costs and networks."""

from collections.abc import Mapping
from typing import Any

from archsearch.core.by_path import class_at
from archsearch.core.family import Family
from archsearch.families import internimage

SHIPPED: Mapping[str, str] = {
    "internimage": "archsearch.families.internimage:Variant",
    "convnext": "archsearch.families.convnext:ConvNeXt",
    "vit": "archsearch.families.vit:ViT",
}
"""The families of this package by name, with their import paths; each is imported when named."""

DEFAULT: type[Family] = internimage.Variant
"""The family where none is named."""


def family_named(text: str) -> type[Family]:
    """The family of a shipped name (``convnext``), or at ``package.module:Class``.

    Raises:
        ValueError: no family has that name, or it cannot be imported.
    """
    path = SHIPPED.get(text.strip().lower(), text.strip())
    if ":" not in path:
        raise ValueError(
            f"a family is {', '.join(SHIPPED)}, FILE.py:Class or package.module:Class, got {text!r}"
        )
    return class_at(path, Family)


def variant_from_dict(values: Mapping[str, Any]) -> Family:
    """The variant that `archsearch.core.family.variant_to_dict` wrote.

    Values without a family's import path are an InternImage.

    Raises:
        ValueError: the family cannot be imported, fields are missing or unknown, or the numbers
            break a rule.
    """
    path = values.get("family")
    if path is None:
        return internimage.variant_from_dict(values)
    family = class_at(str(path), Family)
    try:
        return family(**{name: value for name, value in values.items() if name != "family"})
    except TypeError as error:
        raise ValueError(f"not a variant of {path}: {error}") from None
