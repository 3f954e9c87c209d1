"""The family seam: what a network family tells the tool about its variants.

A family is one frozen dataclass of whole numbers; a variant is an instance of it. Everything else
follows: rules, cost, the grid at a budget, how an origin grows, labels. Only `Family.build` is
needed; the rest has defaults. No torch here.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from archsearch.core.by_path import path_of
from archsearch.core.cost import Cost

if TYPE_CHECKING:
    from torch import nn

    from archsearch.core.recipe import Recipe


class Family:
    """Base of every family; a subclass is a frozen dataclass.

    Raises:
        ValueError: naming every rule that a variant breaks.
    """

    solved: ClassVar[str]
    """The number that is solved for a budget."""

    axes: ClassVar[tuple[str, ...]] = ()
    """The other numbers as axes of a heatmap: panel, then y, then x."""

    labels: ClassVar[Mapping[str, str]] = {}
    """How a number is printed: ``{"c1": "C1"}``; by its own name where it is missing."""

    switch_names: ClassVar[tuple[str, ...]] = ()
    """Fields that are choices of the block and not numbers of the variant."""

    stored_unnamed: ClassVar[bool] = False
    """For families whose variants were stored before files named the family."""

    def __post_init__(self) -> None:
        if problems := self.problems():
            raise ValueError(f"not a variant: {'; '.join(problems)}")

    def build(self, num_classes: int) -> "nn.Module":
        """The network, untrained: ``(N, 3, H, W)`` to ``(N, num_classes)``."""
        raise NotImplementedError(f"{type(self).__name__} has no build(num_classes)")

    def build_for(self, num_classes: int, recipe: "Recipe") -> "nn.Module":
        """The network as a recipe trains it; a family that has drop path takes its rate here."""
        del recipe
        return self.build(num_classes)

    def rules(self) -> list[str]:
        """Every rule that these numbers break, in words; none by default."""
        return []

    def least(self) -> int:
        """The smallest legal value of the solved number beside the other numbers."""
        return 1

    def repaired(self) -> tuple[Self, str] | None:
        """The legal numbers closest to these illegal ones, and the rule that was applied; None
        where the family has no such rule. The solved number is solved again afterwards."""
        return None

    def cost(self, height: int = 224, width: int | None = None, num_classes: int = 1000) -> Cost:
        """Parameters, multiply-adds and activations for one image, square by default.

        A family overrides this where it has a closed form; the default builds the network on the
        meta device and counts it there, which loads torch.
        """
        from archsearch.core.meta_cost import count_module

        return count_module(lambda: self.build(num_classes), height, width or height)

    def grown(self, alpha: float, beta: float, phi: int, rounding: str) -> tuple[Self, str]:
        """The variant ``phi`` steps of (alpha, beta) larger, and what was rounded, in words."""
        raise ValueError(f"{type(self).__name__} has no rule to grow by alpha and beta")

    def growth(self, alpha: float, beta: float, axis: str = "params") -> tuple[float, str]:
        """What one step of phi multiplies the cost on ``axis`` by, and how that was computed."""
        larger = self.grown(alpha, beta, 1, "nearest")[0].cost()
        return getattr(larger, axis) / getattr(self.cost(), axis), "the step to phi = 1"

    def published(self) -> Mapping[str, Any]:
        """Name and result that are printed for exactly this variant; empty for any other."""
        return {}

    @property
    def num_blocks(self) -> int:
        """Blocks in a row, each of which costs some time whatever its size."""
        return 1

    # --- what follows from the above

    def problems(self) -> list[str]:
        """Numbers below 1, else the broken rules, in words; empty for a legal variant."""
        wrong = [
            f"{self.label_of(name)} wants a whole number >= 1, got {value}"
            for name, value in self.by_name.items()
            if not isinstance(value, int) or value < 1
        ]
        return wrong or self.rules()

    @classmethod
    def number_names(cls) -> tuple[str, ...]:
        """The fields that are numbers of the variant, in their order."""
        return tuple(f.name for f in fields(cls) if f.name not in cls.switch_names)  # type: ignore[arg-type]

    @classmethod
    def label_of(cls, name: str) -> str:
        """How the number ``name`` is printed."""
        return cls.labels.get(name, name)

    @property
    def by_name(self) -> dict[str, int]:
        """The numbers of the variant by their names."""
        return {name: getattr(self, name) for name in self.number_names()}

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(self.by_name.values())

    @property
    def solved_value(self) -> int:
        """The number that is solved for a budget."""
        return int(getattr(self, self.solved))

    def with_solved(self, value: int) -> Self:
        """Another solved number, all else the same."""
        return replace(self, **{self.solved: value})  # type: ignore[type-var]

    def params(self) -> dict[str, Any]:
        """Numbers and switches under the names that Optuna sees."""
        return self.by_name | self.switches

    @property
    def switches(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.switch_names}

    @property
    def name(self) -> str:
        """The numbers as one types them: ``64-16-4-18``."""
        return "-".join(map(str, self.numbers))

    @property
    def label(self) -> str:
        """The numbers as reports print them: ``(64, 16, 4, 18)``."""
        return f"({', '.join(map(str, self.numbers))})"

    def with_numbers(self, *numbers: int) -> Self:
        """Other numbers, the same switches."""
        return replace(self, **dict(zip(self.number_names(), numbers, strict=True)))  # type: ignore[type-var]

    def unchecked(self, **numbers: int) -> Self:
        """Other numbers, legal or not: for asking `problems` and `repaired` about them."""
        variant = object.__new__(type(self))
        for field in fields(self):  # type: ignore[arg-type]
            value = numbers.get(field.name, getattr(self, field.name))
            object.__setattr__(variant, field.name, value)
        return variant


def variant_to_dict(variant: Family) -> dict[str, Any]:
    """Plain JSON values; `archsearch.families.variant_from_dict` is its inverse."""
    values: dict[str, Any] = asdict(variant)  # type: ignore[call-overload]
    return values if variant.stored_unnamed else {"family": path_of(type(variant)), **values}


def differing_switches(variants: Iterable[Family]) -> list[str]:
    """The switches in which these variants differ, in the order of the fields.

    They tell variants of the same numbers apart: a study may change a kernel and nothing else.
    """
    seen: dict[str, set[Any]] = {}
    for variant in variants:
        for name, value in variant.switches.items():
            seen.setdefault(name, set()).add(value)
    return [name for name, values in seen.items() if len(values) > 1]


def with_switches(name: str, variant: Family, switches: Iterable[str]) -> str:
    """``16-8-2-4 kernel_size=5``: ``name``, and these of the variant's switches."""
    return " ".join([name, *(f"{s}={getattr(variant, s)}" for s in switches)])


def names_of(variants: Iterable[Family | None]) -> Iterator[str]:
    """A name per variant, with the switches in which they differ; "" for None."""
    listed = list(variants)
    switches = differing_switches(v for v in listed if v is not None)
    return ("" if v is None else with_switches(v.name, v, switches) for v in listed)
