"""Commands that train nothing: cost of a network, exponent, list of studies, this machine."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from typer import Argument, Exit, Option

from archsearch.api.families import FamilyOptions, network_named, refuse_internimage_options
from archsearch.api.keywords import evaluate_all, from_options, number_options
from archsearch.api.live import say
from archsearch.cli.options import AsFormat, Format, ImageSize, with_options
from archsearch.cli.output import print_blocks, print_json, print_rows
from archsearch.core.closed_form import cost_of
from archsearch.core.counted_cost import counted_cost
from archsearch.core.family import Family
from archsearch.core.numbers import LARGEST, parse_image_size, size_text
from archsearch.families.internimage import ORIGIN, InternImageFamily, parse_variant
from archsearch.families.internimage_cost import count_row
from internimage.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class VariantNumbers:
    """The numbers of a variant, one option each."""

    values: Mapping[str, str] = number_options(
        ORIGIN.number_names(), "Count the InternImage with this {name}; give all four numbers."
    )


@with_options(FamilyOptions, VariantNumbers)
def count(
    name: Annotated[
        str | None,
        Argument(
            help="Count this network: T, S, B, L, XL, H, C1-C'-L1-L3 such as 64-16-4-18, RUN:best, "
            "or with --family a published name or all numbers joined by -."
        ),
    ] = None,
    image_size: ImageSize = "224",
    kernel: Annotated[
        int | None,
        Option("--kernel", min=1, max=LARGEST, help="Set the kernel size K of the operator."),
    ] = None,
    norm: Annotated[
        str | None, Option(help="Set the position of the norms: pre, post or res-post.")
    ] = None,
    layer_scale: Annotated[
        float | None, Option(help="Turn on layer scale with this initial gamma.")
    ] = None,
    operator: Annotated[
        str | None, Option(help="Set the operator: dcnv3 or one of its ablations.")
    ] = None,
    classes: Annotated[
        int, Option(min=1, max=LARGEST, help="Count a classifier of this many classes.")
    ] = 1000,
    verify: Annotated[
        bool,
        Option(
            "--verify",
            help="Also count the built model (InternImage's with fvcore); exit 1 if they differ.",
        ),
    ] = False,
    output: AsFormat = Format.table,
    **values: Any,
) -> None:
    """Count the parameters and multiply-adds of a network.

    Activations are counted too. InternImage is counted in closed form, for any image size; a
    family without a closed form on the meta device.
    """
    changes: dict[str, Any] = {
        "kernel": kernel, "norm": norm, "layer_scale": layer_scale, "operator": operator,
    }  # fmt: skip
    changes = {name: value for name, value in changes.items() if value is not None}
    options = from_options(FamilyOptions, values)
    network, pixels = evaluate_all(
        lambda: _network(name, options, from_options(VariantNumbers, values).values, changes),
        lambda: parse_image_size(image_size, "--image-size"),
    )
    config = _config(network, changes, classes) if isinstance(network, InternImageFamily) else None
    row = _row(network, classes, *pixels) if config is None else count_row(config, *pixels)
    if output is Format.json:
        print_json(row)
    else:
        print_rows([row | {"image_size": size_text(row["image_size"])}])
    if verify:
        differences = (
            _differences_of_built(network, classes, *pixels)
            if config is None
            else _differences(config, *pixels)
        )
        for line in differences:
            say(line)
        if differences:
            raise Exit(1)
        say(f"closed form = built module{'' if config is None else ' = fvcore'}")


def _network(
    name: str | None,
    options: FamilyOptions,
    numbers: Mapping[str, str],
    changes: Mapping[str, Any],
) -> Family:
    flags = {number: f"--{number.replace('_', '-')}" for number in ORIGIN.number_names()}
    if name and numbers:
        listed = ", ".join(flags[number] for number in numbers)
        raise ValueError(f"give a name ({name}) or numbers ({listed}), not both")
    if name:
        variant = network_named(name, options.family, options.switches)
        if not isinstance(variant, InternImageFamily):
            refuse_internimage_options(type(variant), changes)
        return variant
    like = options.like()
    if not isinstance(like, InternImageFamily):
        raise ValueError(
            f"count needs a network of {type(like).__name__}: a published name, or {like.form()}"
        )
    if missing := [flag for number, flag in flags.items() if number not in numbers]:
        raise ValueError(
            "count needs a name (T, S, B, L, XL, H), four numbers in one (64-16-4-18), or "
            f"{' '.join(flags.values())}; missing: {', '.join(missing)}"
        )
    return type(like).parse("-".join(numbers[number] for number in flags), like)


def _config(network: InternImageFamily, changes: Mapping[str, Any], classes: int) -> ModelConfig:
    names = {"kernel": "kernel_size"}
    changed = {names.get(name, name): value for name, value in changes.items()}
    config = replace(network.config(), num_classes=classes, **changed)
    norm = changes.get("norm")
    return config if norm is None else replace(config, stage_end_norm=norm != "post")


def _row(variant: Family, classes: int, height: int, width: int) -> dict[str, Any]:
    """Return the numbers, the switches and the cost of a network of another family."""
    cost = cost_of(variant, height, width, classes)
    return {**variant.params(), "num_classes": classes, **vars(cost)}


def _differences_of_built(variant: Family, classes: int, height: int, width: int) -> list[str]:
    """Return how the cost differs from a count of the built network on the meta device."""
    cost = cost_of(variant, height, width, classes)
    built = counted_cost(variant, height, width, classes)
    return [
        f"{name}: closed form {getattr(cost, name):,}, built module {getattr(built, name):,}"
        for name in ("params", "macs", "activations")
        if getattr(cost, name) != getattr(built, name)
    ]


def _differences(config: ModelConfig, height: int, width: int) -> list[str]:
    from archsearch.paper.cost_check import verify

    say("building the model and counting it with fvcore ...")
    return verify(config, height, width)


def exponent(
    origin: Annotated[
        str, Argument(help="Double the width of this network: T, S, B, L, XL, or C1-C'-L1-L3.")
    ] = ORIGIN.name,
    output: AsFormat = Format.table,
) -> None:
    """Measure the exponent of alpha * beta^1.99 ~ 2.

    It is measured by doubling C1 at constant depth.
    """
    from archsearch.paper.exponents import exponents

    variant = parse_variant(origin)
    measured = exponents(variant)
    if output is Format.json:
        print_json({"origin": variant.name, "exponents": [one.to_dict() for one in measured]})
        return
    rows = [
        {"counted": one.counted, "exponent": f"{one.exponent:.3f}"}
        | {f"α {a:.2f} β {b:.2f}": f"{step:.3f}" for (a, b), step in one.steps.items()}
        for one in measured
    ]
    print_rows(rows, title=f"{variant.name}: alpha * beta^exponent for the pairs of Table C")


def studies(output: AsFormat = Format.table) -> None:
    """List the paper's studies and their commands.

    The list has the question, the source and the cost of each study.
    """
    from archsearch.cli.catalogue import catalogue

    rows: list[dict[str, Any]] = catalogue()
    if output is Format.json:
        print_json(rows)
    else:
        print_blocks(rows)


def doctor() -> None:
    """Show what a bug report should contain.

    It has the versions, compilers and GPUs, the backends of the operator and why one is not used,
    and what the self-check of the CUDA kernels found.
    """
    from cuda_ops.doctor import report

    for line in report():
        print(line)


COMMANDS = (count, exponent, studies, doctor)
