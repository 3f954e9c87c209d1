"""A variant: the numbers that name one InternImage, under the paper's four stacking rules.

Section 3.2: (1) C_i = 2^(i-1) C1; (2) G_i = C_i / C'; (3) L1 = L2 = L4; (4) L1 <= L3.
Four numbers (C1, C', L1, L3) decide a network. `FreeVariant` is what the rules give away: all
twelve hyper-parameters free.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from internimage.config import ModelConfig, Norm, Operator


def rule_violations(c1: int, group_channels: int, l1: int, l3: int) -> list[str]:
    """What stands against these four numbers, in words; empty for a legal variant."""
    numbers = {"C1": c1, "C'": group_channels, "L1": l1, "L3": l3}
    problems = [f"{k} wants a whole number >= 1, got {v}" for k, v in numbers.items() if v < 1]
    if problems:
        return problems
    if c1 % 2:
        problems.append(f"C1 must be even (the stem halves it), got {c1}")
    if c1 % group_channels:
        problems.append(f"rule 2: C1 = {c1} is not a multiple of C' = {group_channels}")
    if l1 > l3:
        problems.append(f"rule 4: L1 = {l1} exceeds L3 = {l3}")
    return problems


@dataclass(frozen=True, order=True)
class Variant:
    """Four numbers and the switches of the block.

    The defaults of the switches are T's block (pre-norm, no layer scale), which the grid uses;
    scaled models take S and B's (post-norm, layer scale).

    Raises:
        ValueError: naming every broken rule.
    """

    c1: int
    group_channels: int
    l1: int
    l3: int
    kernel_size: int = 3
    norm: Norm = "pre"
    layer_scale: float | None = None
    offset_scale: float = 1.0
    operator: Operator = "dcnv3"

    def __post_init__(self) -> None:
        if problems := rule_violations(*self.numbers):
            raise ValueError(f"not a variant: {'; '.join(problems)}")
        if self.layer_scale is not None:  # one spelling per value, whatever JSON gave
            object.__setattr__(self, "layer_scale", float(self.layer_scale))

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        return self.c1, self.group_channels, self.l1, self.l3

    @property
    def depth(self) -> int:
        """D = 3 L1 + L3, the number of blocks (Section 3.2)."""
        return 3 * self.l1 + self.l3

    @property
    def name(self) -> str:
        return "-".join(map(str, self.numbers))

    def with_numbers(self, c1: int, group_channels: int, l1: int, l3: int) -> "Variant":
        """Other numbers, the same switches."""
        return replace(self, c1=c1, group_channels=group_channels, l1=l1, l3=l3)

    def config(self, num_classes: int = 1000, drop_path: float = 0.0) -> ModelConfig:
        """The network, written out per stage."""
        channels = (self.c1, 2 * self.c1, 4 * self.c1, 8 * self.c1)
        g1, g2, g3, g4 = (c // self.group_channels for c in channels)
        return ModelConfig(
            channels=channels,
            depths=(self.l1, self.l1, self.l3, self.l1),
            groups=(g1, g2, g3, g4),
            num_classes=num_classes,
            drop_path=drop_path,
            stage_end_norm=self.norm != "post",
            **_switches(self),
        )


@dataclass(frozen=True, order=True)
class FreeVariant:
    """All twelve hyper-parameters (C_i, G_i, L_i) free, with the same switches."""

    channels: tuple[int, int, int, int]
    groups: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    kernel_size: int = 3
    norm: Norm = "pre"
    layer_scale: float | None = None
    offset_scale: float = 1.0
    operator: Operator = "dcnv3"

    def __post_init__(self) -> None:
        for name in ("channels", "groups", "depths"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self.config()

    @property
    def depth(self) -> int:
        return sum(self.depths)

    @property
    def name(self) -> str:
        parts = (self.channels, self.groups, self.depths)
        return "-".join("".join(("CGL"[i], ".".join(map(str, p)))) for i, p in enumerate(parts))

    def config(self, num_classes: int = 1000, drop_path: float = 0.0) -> ModelConfig:
        return ModelConfig(
            channels=self.channels,
            depths=self.depths,
            groups=self.groups,
            num_classes=num_classes,
            drop_path=drop_path,
            stage_end_norm=self.norm != "post",
            **_switches(self),
        )


AnyVariant = Variant | FreeVariant

_scaled = Variant(64, 16, 4, 18, norm="post", layer_scale=1e-5)

PUBLISHED: dict[str, Variant] = {
    "T": Variant(64, 16, 4, 18),
    "S": _scaled.with_numbers(80, 16, 4, 21),
    "B": _scaled.with_numbers(112, 16, 4, 21),
    "L": replace(_scaled.with_numbers(160, 16, 5, 22), offset_scale=2.0),
    "XL": replace(_scaled.with_numbers(192, 16, 5, 24), offset_scale=2.0),
}
"""Table 1 as variants, with the blocks of the released models. H is no variant: its block and head
have parts of their own (`internimage.config.PRESETS`)."""

ORIGIN = PUBLISHED["T"]
"""The paper's origin model, with T's block (pre-norm, no layer scale), which the grid uses."""

SCALED_ORIGIN = _scaled
"""The origin's numbers with the block of S and B (post-norm, layer scale), which ladders use."""

PUBLISHED_ACCURACY = {"T": 83.5, "S": 84.2, "B": 84.9, "L": 87.7, "XL": 88.0}
"""ImageNet-1K top-1 in percent (Table 2); L and XL at 384 x 384 after ImageNet-22K."""


def _switches(v: AnyVariant) -> dict[str, Any]:
    return {
        "kernel_size": v.kernel_size,
        "norm": v.norm,
        "layer_scale": v.layer_scale,
        "offset_scale": v.offset_scale,
        "operator": v.operator,
    }


def differing_switches(variants: Iterable[AnyVariant]) -> list[str]:
    """The switches in which these networks are not alike, in the order of the fields.

    What tells networks of the same numbers apart: a study may change a kernel and nothing else.
    """
    found = [_switches(v) for v in variants]
    return [s for s in (found[0] if found else ()) if len({v[s] for v in found}) > 1]


def named_apart(name: str, variant: AnyVariant, switches: Iterable[str]) -> str:
    """``16-8-2-4 kernel_size=5``: ``name``, and these of the variant's switches."""
    return " ".join([name, *(f"{s}={getattr(variant, s)}" for s in switches)])


def paper_figures(variant: AnyVariant) -> dict[str, Any]:
    """Name and accuracy that the paper prints for exactly this network; empty for any other."""
    names = [name for name, known in PUBLISHED.items() if known == variant]
    return {"model": names[0], "accuracy": PUBLISHED_ACCURACY[names[0]]} if names else {}


def parse_variant(text: str, like: Variant = ORIGIN) -> Variant:
    """A published name (``T`` ... ``XL``) or four numbers ``C1-C'-L1-L3`` (``64-16-4-18``).

    Four numbers take their switches from ``like``; a name brings its own.

    Raises:
        ValueError: saying what is accepted, or which rule the numbers break.
    """
    name = text.strip()
    if name.upper() in PUBLISHED:
        return PUBLISHED[name.upper()]
    numbers = name.split("-")
    if len(numbers) != 4 or not all(n.isascii() and n.isdigit() for n in numbers):
        raise ValueError(
            f"wanted one of {', '.join(PUBLISHED)} or four numbers C1-C'-L1-L3 like {ORIGIN.name}, "
            f"got {text!r} (H is no variant: it can be counted and built by name only)"
        )
    c1, group_channels, l1, l3 = map(int, numbers)
    return like.with_numbers(c1, group_channels, l1, l3)


def variant_to_dict(variant: AnyVariant) -> dict[str, Any]:
    """Plain JSON values; `variant_from_dict` is its inverse."""
    return asdict(variant)


def variant_from_dict(values: Mapping[str, Any]) -> AnyVariant:
    """Rebuild a variant from `variant_to_dict`.

    Raises:
        ValueError: for unknown or missing fields, or numbers that break a rule.
    """
    kind = Variant if "c1" in values else FreeVariant
    known = {f.name for f in fields(kind)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"unknown fields of a variant: {', '.join(unknown)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"not a variant: {error}") from None
