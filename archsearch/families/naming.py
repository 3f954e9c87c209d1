"""Names of the networks of one study: the shortest that differ."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from archsearch.core.family import Family, differing_switches, name_with_switches
from archsearch.families import short_name
from archsearch.families.internimage import InternImageFamily

Setting = Mapping[str, Any]


def family_name(variant: Family) -> str:
    """The name of a variant's family; all InternImages are one."""
    is_internimage = isinstance(variant, InternImageFamily)
    return "internimage" if is_internimage else short_name(type(variant))


@dataclass(frozen=True)
class Naming:
    """What a name has beside the numbers of a variant.

    That is the family if there are several (``switches`` has an entry for each), the switches in
    which the variants of one family differ, and the settings in which trainings of one variant do.
    """

    switches: Mapping[str, list[str]]
    settings: tuple[str, ...]

    @classmethod
    def of(cls, networks: Iterable[tuple[Family | None, Setting]]) -> Self:
        """The naming of these variants with the settings of their cells; None is left out."""
        settings: dict[Family, list[Setting]] = {}
        for variant, own in networks:
            if variant is not None:
                settings.setdefault(variant, []).append(own)
        by_family: dict[str, list[Family]] = {}
        for variant in settings:
            by_family.setdefault(family_name(variant), []).append(variant)
        return cls(
            {name: differing_switches(variants) for name, variants in by_family.items()},
            tuple(dict.fromkeys(n for several in settings.values() for n in _differing(several))),
        )

    def name(self, text: str, variant: Family, settings: Setting) -> str:
        """``text``, the numbers of ``variant``, as the name of the network."""
        family = family_name(variant)
        named = f"{family} {text}" if len(self.switches) > 1 else text
        name = name_with_switches(named, variant, self.switches.get(family, ()))
        return " ".join([name, *(f"{n}={settings[n]:g}" for n in self.settings if n in settings)])


def _differing(several: list[Setting]) -> list[str]:
    """The settings in which these differ."""
    names = dict.fromkeys(name for settings in several for name in settings)
    return [name for name in names if len({settings.get(name) for settings in several}) > 1]
