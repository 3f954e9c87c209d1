"""The family seam: the interface of a network family.

A family is a frozen dataclass of whole numbers; a variant is an instance of it. A subclass must
define `solved` and `Family.build`; rules, cost, growth and labels have defaults. This module does
not import torch.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from archsearch.core.by_file import restored, source_of
from archsearch.core.by_path import path_of
from archsearch.core.cost import Cost, FeatureMaps
from archsearch.core.counted_cost import counted_cost
from archsearch.core.family_fault import FamilyFault, explained
from archsearch.core.numbers import LARGEST, quoted

if TYPE_CHECKING:
    from torch import nn

    from archsearch.core.recipe import Recipe


class Family:
    """Base class of every family; a subclass is a frozen dataclass.

    Raises:
        ValueError: lists every rule that the variant breaks.
    """

    solved: ClassVar[str]
    """Name of the field that is solved to meet a budget."""

    axes: ClassVar[tuple[str, ...]] = ()
    """The other numbers as axes of a heatmap: panel, then y, then x."""

    labels: ClassVar[Mapping[str, str]] = {}
    """Field name -> printed label, such as ``{"c1": "C1"}``; the default is the field name."""

    switch_names: ClassVar[tuple[str, ...]] = ()
    """Fields that choose the type of block; they are not numbers of the variant."""

    grid_values: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    """The values of the default grid, of every number that is not solved; none by default."""

    closed_form_is_tested: ClassVar[bool] = False
    """True for the families of this package, whose costs the tests compare with built networks; of
    others a plan compares them."""

    has_gradient_checkpointing: ClassVar[bool] = False
    """Whether modules of the network have ``set_gradient_checkpointing()``, for recipes that set
    it."""

    stored_without_path: ClassVar[bool] = False
    """True for families whose variants were stored before files held the family's import path."""

    def __post_init__(self) -> None:
        if problems := self.problems():
            raise ValueError(f"not a variant: {'; '.join(problems)}")

    def build(self, num_classes: int) -> "nn.Module":
        """The untrained network, a map from ``(N, 3, H, W)`` to ``(N, num_classes)``."""
        raise NotImplementedError(f"{type(self).__name__} has no build(num_classes)")

    def build_for(self, num_classes: int, recipe: "Recipe") -> "nn.Module":
        """The untrained network with the recipe's settings; families with drop path override it."""
        del recipe
        return self.build(num_classes)

    def build_backbone(self, recipe: "Recipe | None" = None) -> "nn.Module":
        """The untrained network without its classifier, from images to four maps.

        The maps are ``(N, C, H, W)`` at strides 4, 8, 16 and 32; detectors and segmenters need
        them. A recipe sets what `build_for` takes from it.

        Raises:
            ValueError: the family has no such maps.
        """
        raise ValueError(self._no_maps())

    def feature_maps(self, height: int = 224, width: int | None = None) -> FeatureMaps:
        """The cost of `build_backbone` and the sizes of its maps for one image, in closed form.

        Raises:
            ValueError: the family has no such maps, or no closed form.
        """
        raise ValueError(self._no_maps())

    def _no_maps(self) -> str:
        return (
            f"{type(self).__name__} gives no four maps at strides 4, 8, 16 and 32, which detectors "
            "and segmenters need; InternImage and ConvNeXt do"
        )

    def rules(self) -> list[str]:
        """A message for every rule that these numbers break; no rules by default."""
        return []

    def min_solved(self) -> int:
        """The smallest legal value of the solved number, given the other numbers."""
        return 1

    def repaired(self) -> tuple[Self, str] | None:
        """The closest legal variant and a text of the applied rule, for a variant that breaks a
        rule; None if the family has no repair rule. The caller solves the solved number again."""
        return None

    def cost(self, height: int = 224, width: int | None = None, num_classes: int = 1000) -> Cost:
        """Parameters, multiply-adds and activations for one image, square by default.

        The default builds the network on the meta device, counts it and keeps the cost on disk. A
        family with a closed form overrides it.
        """
        return counted_cost(self, height, width or height, num_classes)

    def grow(self, alpha: float, beta: float, phi: int, rounding: str) -> tuple[Self, str]:
        """The variant ``phi`` steps of (alpha, beta) larger, and a text of what was rounded.

        Raises:
            ValueError: the family has no scaling rule.
        """
        raise ValueError(f"{type(self).__name__} has no rule to grow by alpha and beta")

    def growth_factor(self, alpha: float, beta: float, axis: str = "params") -> tuple[float, str]:
        """The factor by which one step of phi multiplies the cost on ``axis``, and its formula."""
        larger = self.grow(alpha, beta, 1, "nearest")[0].cost()
        return getattr(larger, axis) / getattr(self.cost(), axis), "size at phi 1 / size at phi 0"

    def published(self) -> Mapping[str, Any]:
        """Model name and result that the paper prints for exactly this variant, else empty."""
        return {}

    @classmethod
    def named(cls) -> Mapping[str, Self]:
        """The published variants by name; none by default."""
        return {}

    @classmethod
    def parse(cls, text: str, like: Self | None = None) -> Self:
        """The variant of a published name, or of all numbers joined by ``-`` (``32-5``).

        Numbers take their switches from ``like``, by default those of `template`.

        Raises:
            ValueError: the text has another form, or the numbers break a rule.
        """
        name, names = text.strip(), cls.number_names()
        published = {title.casefold(): variant for title, variant in cls.named().items()}
        if name.casefold() in published:
            return published[name.casefold()]
        parts = name.split("-")
        if len(parts) != len(names) or not all(
            re.fullmatch(r"\d{1,15}", part, re.ASCII) for part in parts
        ):
            known = f"one of {', '.join(cls.named())}, or " if cls.named() else ""
            raise ValueError(f"wanted {known}the numbers {cls.form()}, got {quoted(text)}")
        return (like or cls.template()).with_numbers(*map(int, parts))

    @classmethod
    def template(cls, **switches: Any) -> Self:
        """A variant with these switches, else with their defaults, and with every number 1.

        It is not validated: it gives a space or a parsed name its family and its switches.
        """
        variant = object.__new__(cls)
        for field in fields(cls):  # type: ignore[arg-type]
            default = None if field.default is MISSING else field.default
            value = switches.get(field.name, default) if field.name in cls.switch_names else 1
            object.__setattr__(variant, field.name, value)
        return variant

    @property
    def num_blocks(self) -> int:
        """Number of consecutive blocks; each costs some time regardless of its size."""
        return 1

    # --- derived from the above; subclasses rarely override these

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle a variant of a file with the file's content: the other process may lack it."""
        cls = type(self)
        if (source := source_of(cls)) is None:
            return super().__reduce_ex__(protocol)
        return restored, (source, cls.__qualname__, vars(self))

    def problems(self) -> list[str]:
        """A message for every number out of range, else for every broken rule; empty if legal."""
        wrong = [
            f"{self.label_of(name)} must be a whole number from 1 to {LARGEST:,}, got "
            f"{quoted(value)}"
            for name, value in self.by_name.items()
            if not isinstance(value, int) or not 1 <= value <= LARGEST
        ]
        if wrong:
            return wrong
        with explained(type(self), "rules", self.name):
            broken = self.rules()
        if not isinstance(broken, list) or not all(isinstance(text, str) for text in broken):
            wanted = "a list of texts, one for each broken rule"
            raise FamilyFault(f"{type(self).__name__}.rules returns {broken!r}, wanted {wanted}")
        return broken

    @classmethod
    def number_names(cls) -> tuple[str, ...]:
        """The fields that are numbers of the variant, in field order."""
        return tuple(f.name for f in fields(cls) if f.name not in cls.switch_names)  # type: ignore[arg-type]

    @classmethod
    def label_of(cls, name: str) -> str:
        """The printed label of the number ``name``."""
        return cls.labels.get(name, name)

    @classmethod
    def form(cls) -> str:
        """What `name` consists of, for messages: ``C1-C'-L1-L3``; each label is one word."""
        return "-".join(cls.label_of(name).replace(" ", "_") for name in cls.number_names())

    @property
    def by_name(self) -> dict[str, int]:
        """Field name -> value, for the numbers of the variant."""
        return {name: getattr(self, name) for name in self.number_names()}

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(self.by_name.values())

    @property
    def solved_value(self) -> int:
        """The value of the solved number."""
        return int(getattr(self, self.solved))

    def with_solved(self, value: int) -> Self:
        """This variant with another value of the solved number."""
        return replace(self, **{self.solved: value})  # type: ignore[type-var]

    def params(self) -> dict[str, Any]:
        """Numbers and switches under their Optuna parameter names."""
        return self.by_name | self.switches

    @property
    def switches(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.switch_names}

    @property
    def name(self) -> str:
        """The numbers as the command line reads them: ``64-16-4-18``."""
        return "-".join(map(str, self.numbers))

    @property
    def label(self) -> str:
        """The numbers as reports print them: ``(64, 16, 4, 18)``."""
        return f"({', '.join(map(str, self.numbers))})"

    def with_numbers(self, *numbers: int) -> Self:
        """This variant with other numbers and the same switches."""
        return replace(self, **dict(zip(self.number_names(), numbers, strict=True)))  # type: ignore[type-var]

    def unchecked(self, **numbers: int) -> Self:
        """This variant with other numbers, unvalidated, for `problems` and `repaired`."""
        variant = object.__new__(type(self))
        for field in fields(self):  # type: ignore[arg-type]
            value = numbers.get(field.name, getattr(self, field.name))
            object.__setattr__(variant, field.name, value)
        return variant


def variant_to_dict(variant: Family) -> dict[str, Any]:
    """Plain JSON values; `archsearch.families.variant_from_dict` is its inverse."""
    values: dict[str, Any] = asdict(variant)  # type: ignore[call-overload]
    return {**family_to_dict(type(variant)), **values}


def family_to_dict(family: type[Family]) -> dict[str, str]:
    """What stored variants name their family by: its import path, or its file and the sha256 of
    the content. Empty for the family that is stored without a path."""
    if family.stored_without_path:
        return {}
    source = source_of(family)
    if source is None:
        return {"family": path_of(family)}
    return {"family": f"{source.name}:{family.__qualname__}", "source": source.digest}


def has_other_source(variant: Family, sources: Mapping[str, str]) -> bool:
    """Whether ``sources``, the sha256 by family, have the variant's file with another content."""
    own = family_to_dict(type(variant))
    return "source" in own and sources.get(own["family"], own["source"]) != own["source"]


def differing_switches(variants: Iterable[Family]) -> list[str]:
    """The switches in which these variants differ, in field order.

    They distinguish variants with the same numbers: a study may change only the kernel size.
    """
    seen: dict[str, set[Any]] = {}
    for variant in variants:
        for name, value in variant.switches.items():
            seen.setdefault(name, set()).add(value)
    return [name for name, values in seen.items() if len(values) > 1]


def name_with_switches(name: str, variant: Family, switches: Iterable[str]) -> str:
    """``name`` followed by the given switches of the variant: ``16-8-2-4 kernel_size=5``."""
    return " ".join([name, *(f"{s}={getattr(variant, s)}" for s in switches)])
