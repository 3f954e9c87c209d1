"""What "unshared weights" may have meant: readings of Section 4.4, each tried on both its ratios.

The paper says that unshared weights cost T 66.1% more parameters (Table 6) and that sharing saves
42.0% of H's (Fig. 4), but not how the unshared layer is built. A reading must give both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from archsearch.families.internimage_cost import count, count_parts
from internimage.config import PRESETS, ModelConfig

POINTS = 9
MORE_AT_T, SAVED_AT_H = 66.1, 42.0
"""Percent, as printed."""

T = PRESETS["T"].config
RELEASED_H = PRESETS["H"].config
DESCRIBED_H = replace(RELEASED_H, head="plain", center_feature_scale=False)
"""H as Sections 3.1 and 3.2 describe it: neither the gate per group nor the attention pooling of
the released model is in the paper, and only without them has H the printed 1.08B."""

Extra = Callable[[int, int], int]
"""Parameters that a layer of C channels and G groups has more when its weights are not shared."""

WEIGHTS: dict[str, Extra] = {
    "w_k in place of the output projection (8 C^2)": lambda c, _: 8 * c * c,
    "w_k beside the output projection (9 C^2)": lambda c, _: 9 * c * c,
    "w_k in place of both projections (7 C^2)": lambda c, _: 7 * c * c,
}
SIDES: dict[str, Extra] = {
    "": lambda _c, _g: 0,
    "a bias per point": lambda c, _: (POINTS - 1) * c,
    "a second modulation Linear (9 C G)": lambda c, g: POINTS * (c + 1) * g,
    "a second offset Linear (18 C G)": lambda c, g: 2 * POINTS * (c + 1) * g,
    "second offsets and modulation (27 C G)": lambda c, g: 3 * POINTS * (c + 1) * g,
    "modulation per channel": lambda c, g: POINTS * (c + 1) * (c - g),
    "offsets and modulation by a 3x3 convolution": lambda c, g: 8 * 3 * POINTS * c * g,
    "one group": lambda c, g: -3 * POINTS * (c + 1) * (g - 1),
    "no depth-wise convolution": lambda c, _: -(POINTS + 3) * c,
}
STAGES = ((0, 1, 2, 3), (1, 2, 3), (2, 3), (2,), (3,))
BASES: dict[str, tuple[str, ...]] = {
    "all parameters": (),
    "all but the classifier": ("classifier",),
    "all but the head": ("classifier", "head"),
    "the stages alone": (
        "classifier", "head", "stem", "downsample1", "downsample2", "downsample3",
    ),
}  # fmt: skip
H_MODELS = {
    "H as described": DESCRIBED_H,
    "H as described, 3x3 depth-wise": replace(DESCRIBED_H, dw_kernel_size=None),
    "H as released": RELEASED_H,
}


@dataclass(frozen=True)
class Reading:
    """One way to count, and what it gives: percent more at T, percent saved at H."""

    text: str
    more_at_t: float
    saved_at_h: float

    @property
    def gives_t(self) -> bool:
        return f"{self.more_at_t:.1f}" == f"{MORE_AT_T:.1f}"

    @property
    def gives_h(self) -> bool:
        return f"{self.saved_at_h:.1f}" == f"{SAVED_AT_H:.1f}"

    @property
    def miss(self) -> float:
        """Points that the worse of the two ratios is off."""
        return max(abs(self.more_at_t - MORE_AT_T), abs(self.saved_at_h - SAVED_AT_H))


def readings() -> Iterator[Reading]:
    """Every combination of weights, side branch, stages, base, and model that is called H."""
    for (weights, w), (side, s), stages in product(WEIGHTS.items(), SIDES.items(), STAGES):
        for (base, without), (name, h) in product(BASES.items(), H_MODELS.items()):
            more_t = _extra(T, w, s, stages) / _base(T, without)
            more_h = _extra(h, w, s, stages) / _base(h, without)
            where = "" if len(stages) == 4 else f"stages {', '.join(str(i + 1) for i in stages)}"
            text = "; ".join(filter(None, (weights, side, where, f"of {base}", name)))
            yield Reading(text, 100 * more_t, 100 * more_h / (1 + more_h))


def _extra(config: ModelConfig, weights: Extra, side: Extra, stages: tuple[int, ...]) -> int:
    sizes = zip(config.channels, config.groups, config.depths, strict=True)
    per_stage = [depth * (weights(c, g) + side(c, g)) for c, g, depth in sizes]
    return sum(per_stage[i] for i in stages)


@cache
def _base(config: ModelConfig, without: tuple[str, ...]) -> int:
    parts = count_parts(config)
    return count(config).params - sum(parts[name].params for name in without)
