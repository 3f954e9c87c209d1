"""Every size that the paper prints for this family, counted again.

Tables 1, 2, A, C, D, F and G, Section 3.2 and the ratios of Section 4.4. A figure is equal when it
is at the printed precision.
"""

import re
from dataclasses import asdict, dataclass, replace
from math import log2
from typing import Any, Literal

from archsearch.families.internimage import PUBLISHED, SCALED_ORIGIN, Variant
from archsearch.families.internimage_cost import count, count_parts, operator_macs
from archsearch.paper.table_c import ROWS
from archsearch.paper.unshared_weights import DESCRIBED_H, MORE_AT_T, SAVED_AT_H, Reading, readings
from internimage.config import PRESETS, ModelConfig

NOT_COUNTED = (
    "Left out: Tables 3 to 5 and Fig. 2 count detectors and segmenters with the backbone, Table H "
    "prints accuracies only, and Fig. 4's 84.2% is memory (archsearch weight-sharing)."
)

Verdict = Literal["equal", "by another reading", "not recovered"]

PARAMS = "parameters, 1000 classes"
MACS = "multiply-adds of convolutions and linears, 5 per element the operator samples; no norms"
UNITS = {"K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "%": 0.01, "": 1.0}


@dataclass(frozen=True)
class Claim:
    """One printed figure beside ours.

    ``computed`` is exact, in units of one (0.661 for 66.1%). ``found`` is the value by a reading
    that the text does not state, and ``tried`` says which readings were tried; both are empty for
    a claim that has to come out as the paper describes it.
    """

    source: str
    model: str
    quantity: str
    printed: str
    computed: float
    convention: str
    found: float | None = None
    tried: str = ""

    @property
    def ours(self) -> str:
        """The computed figure, rounded as the paper rounds this one."""
        return as_printed(self.computed, self.printed)

    @property
    def verdict(self) -> Verdict:
        if self.ours == self.printed:
            return "equal"
        if self.found is not None and as_printed(self.found, self.printed) == self.printed:
            return "by another reading"
        return "not recovered"

    @property
    def broken(self) -> bool:
        """Whether it should have come out and did not: our mistake, not the paper's."""
        return self.verdict == "not recovered" and not self.tried

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ours": self.ours, "verdict": self.verdict, "broken": self.broken}


def as_printed(value: float, printed: str) -> str:
    """``value`` with the unit and as many decimals as ``printed`` (``1.08B``, ``206G``, ``42.0%``).

    Raises:
        ValueError: when ``printed`` is no such figure.
    """
    match = re.fullmatch(r"\d+(?:\.(\d+))?([KMGB%]?)", printed)
    if match is None:
        raise ValueError(f"wanted a figure such as 1.08B, 206G or 42.0%, got {printed!r}")
    return f"{value / UNITS[match[2]]:.{len(match[1] or '')}f}{match[2]}"


def claims() -> tuple[Claim, ...]:
    """Every one, in the paper's order."""
    return (
        *_family(),
        _exponent(),
        *_unshared(),
        *_table_c(),
        *_table_d(),
        *_table_f(),
        *_table_g(),
    )


def _family() -> list[Claim]:
    sizes = {name: preset for name, preset in PRESETS.items() if name != "H"}
    params = [
        Claim("Tables 1, 2, A", n, "parameters", p.printed_params, count(p.config).params, PARAMS)
        for n, p in sizes.items()
    ]
    macs = [
        _macs("Tables 2, A", name, preset.config, size, printed)
        for name, preset in sizes.items()
        for size, printed in preset.printed_gmacs.items()
        if size != 800  # Table F's
    ]
    return [*params, _params_of_h(), *macs, *_macs_of_h()]


def _macs(source: str, model: str, config: ModelConfig, size: int, printed: str) -> Claim:
    return Claim(source, model, f"FLOPs at {size}", printed, count(config, size).macs, MACS)


def _params_of_h() -> Claim:
    released = PRESETS["H"].params
    how = (
        f"{PARAMS}; as Section 3.2 describes it: plain head, no gate per group. The released H, "
        f"which has both, has {released:,}, which would print as "
        f"{as_printed(released, PRESETS['H'].printed_params)}"
    )
    described = count(DESCRIBED_H).params
    return Claim("Tables 1, 2, A", "H", "parameters", PRESETS["H"].printed_params, described, how)


def _macs_of_h() -> list[Claim]:
    models = {
        "as described": DESCRIBED_H,
        "with a 3x3 depth-wise convolution": replace(DESCRIBED_H, dw_kernel_size=None),
        "as released": PRESETS["H"].config,
    }
    claims = []
    for size, printed in PRESETS["H"].printed_gmacs.items():
        tried = [
            f"{name} {count(config, size).macs / 1e9:.1f}G, without the operator's samples "
            f"{(count(config, size).macs - operator_macs(config, size)) / 1e9:.1f}G"
            for name, config in models.items()
        ]
        contradiction = (
            "the two printed figures contradict each other: cost follows the pixels, and 1478G at "
            "640 is 181G at 224"
        )
        claim = _macs("Tables 2, A", "H", DESCRIBED_H, size, printed)
        claims.append(replace(claim, tried="; ".join([*tried, contradiction])))
    return claims


def _exponent() -> Claim:
    """Section 3.2: "calculated by doubling the model width and keeping the depth constant"."""
    values = {name: exponent(variant) for name, variant in PUBLISHED.items()}
    told = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
    backbone = exponent(PUBLISHED["T"], without=("classifier",))
    return Claim(
        "Section 3.2", "T", "exponent of the width", "1.99", values["T"],
        f"log2 of the {PARAMS}, at twice the width over once",
        found=values["B"],
        tried=f"parameters: {told} (1.99 from B up); T without its classifier {backbone:.3f}",
    )  # fmt: skip


def exponent(variant: Variant, without: tuple[str, ...] = ()) -> float:
    """How parameters grow with width at fixed depth: ``log2(params(2 C1) / params(C1))``."""
    wide = variant.with_numbers(2 * variant.c1, *variant.numbers[1:])
    params = [
        sum(tally.params for part, tally in count_parts(v.config()).items() if part not in without)
        for v in (wide, variant)
    ]
    return log2(params[0] / params[1])


def _unshared() -> list[Claim]:
    """Table 6's and Fig. 4's ratios: the plain reading, and the one that gives both if one does."""
    every = tuple(readings())
    plain, nearest = every[0], min(every, key=lambda r: r.miss)
    both = nearest.gives_t and nearest.gives_h
    tried = _told(every, nearest)
    convention = "unshared over shared parameters: 9 C^2 for the output projection's C^2"
    more = (MORE_AT_T, plain.more_at_t, nearest.more_at_t)
    saved = (SAVED_AT_H, plain.saved_at_h, nearest.saved_at_h)
    claims = []
    for source, model, quantity, (printed, ours, found) in (
        ("Section 4.4 (Table 6)", "T", "more parameters, unshared", more),
        ("Section 4.4 (Fig. 4)", "H", "parameters saved by sharing", saved),
    ):
        text = f"{printed:.1f}%"
        value = found / 100 if both else None
        claims.append(Claim(source, model, quantity, text, ours / 100, convention, value, tried))
    return claims


def _told(every: tuple[Reading, ...], nearest: Reading) -> str:
    """How many fit, and how many would by chance: what is found by trying much proves little."""
    gives_t, gives_h = sum(r.gives_t for r in every), sum(r.gives_h for r in every)
    both = sum(r.gives_t and r.gives_h for r in every)
    near = len({r.more_at_t for r in every if abs(r.more_at_t - MORE_AT_T) < 1})
    return (
        f"{len(every):,} readings: {gives_t} give T's figure, {gives_h} give H's, {both} give "
        f"both. Nearest: {nearest.text}: {nearest.more_at_t:.2f}% and {nearest.saved_at_h:.2f}%. "
        f"The paper does not say so: it was found by counting, and may be chance, for {near} "
        "readings of T lie within a point of its figure"
    )


def _table_c() -> list[Claim]:
    how = f"{PARAMS}; configuration not printed, found by counting"
    return [
        Claim(
            "Table C", f"α {row.alpha:.2f}, β {row.beta:.2f}", "parameters", f"{row.params}M",
            count(SCALED_ORIGIN.with_numbers(*row.recovered).config()).params,
            f"{how}: {'-'.join(map(str, row.recovered))}",
        )
        for row in ROWS
    ]  # fmt: skip


TABLE_D = {3: ("30M", "5G", 83.5), 5: ("37M", "6G", 83.6), 7: ("48M", "8G", 82.8)}
"""K -> parameters, FLOPs at 224 and ImageNet-1K top-1 in percent, as printed."""


def _table_d() -> list[Claim]:
    found = []
    for kernel, (params, macs, _) in TABLE_D.items():
        config = replace(PRESETS["T"].config, kernel_size=kernel)
        name, how = f"T, K = {kernel}", f"{PARAMS}; the depth-wise convolution has K too"
        found.append(Claim("Table D", name, "parameters", params, count(config).params, how))
        found.append(_macs("Table D", name, config, 224, macs))
    return found


def _table_f() -> list[Claim]:
    b = PRESETS["B"].config
    dcnv2 = replace(b, operator="dcnv3-unshared", groups=(1, 1, 1, 1))
    how = f"{PARAMS}; one group, 9 C^2 for the output projection's C^2, input projection kept"
    at_800 = count(dcnv2, 800).macs
    contradiction = (
        f"counted as 146M and 24G are: {at_800 / 1e9:.1f}G. The printed pair contradicts itself by "
        "a rounding: cost follows the pixels (12.755 times as many), and what rounds to 24G at 224 "
        "is below 312.5G at 800"
    )
    large = replace(_macs("Table F", "B, DCNv2", dcnv2, 800, "313G"), tried=contradiction)
    return [
        Claim("Table F", "B", "parameters", "97M", count(b).params, PARAMS),
        _macs("Table F", "B", b, 224, "16G"),
        _macs("Table F", "B", b, 800, "206G"),
        Claim("Table F", "B, DCNv2", "parameters", "146M", count(dcnv2).params, how),
        _macs("Table F", "B, DCNv2", dcnv2, 224, "24G"),
        large,
    ]


def _table_g() -> list[Claim]:
    config = PRESETS["L"].config
    scaled = 108e9 * (800 / 384) ** 2
    tried = (
        f"counted {count(config, 800).macs / 1e9:.1f}G; the printed 108G times the ratio of pixels "
        f"is {scaled / 1e9:.2f}G, and Swin-L's printed 451G is its 104G times the same"
    )
    return [
        Claim("Table G", "L", "parameters", "223M", count(config).params, PARAMS),
        _macs("Table G", "L", config, 384, "108G"),
        replace(_macs("Table G", "L", config, 800, "469G"), found=scaled, tried=tried),
    ]
