"""Commands that train nothing: what a network costs, what the studies are."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from typer import Argument, Exit, Option

from archsearch.api.keywords import gather, numbers
from archsearch.cli.options import AsFormat, Format, with_options
from archsearch.cli.output import print_blocks, print_json, print_rows
from archsearch.families.internimage import ORIGIN, parse_variant
from archsearch.families.internimage_cost import count_row
from archsearch.networks import variant_named
from internimage.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The numbers of a variant, one option each."""

    values: Mapping[str, str] = numbers(ORIGIN.number_names(), "Count by numbers: all of them.")


@with_options(Numbers)
def count(
    name: Annotated[
        str | None,
        Argument(help="T, S, B, L, XL, H, C1-C'-L1-L3 such as 64-16-4-18, or RUN:best."),
    ] = None,
    image_size: Annotated[int, Option(min=1, help="Side of the square image.")] = 224,
    kernel: Annotated[int | None, Option("--kernel", help="Kernel size K of the operator.")] = None,
    norm: Annotated[str | None, Option(help="pre, post or res-post.")] = None,
    layer_scale: Annotated[float | None, Option(help="Initial gamma; turns it on.")] = None,
    operator: Annotated[str | None, Option(help="dcnv3 or one of its ablations.")] = None,
    classes: Annotated[int, Option(min=1)] = 1000,
    verify: Annotated[
        bool, Option("--verify", help="Build the model and run fvcore too; exit 1 on a difference.")
    ] = False,
    output: AsFormat = Format.table,
    **values: Any,
) -> None:
    """Parameters, multiply-adds, activations of a network.

    In closed form, at any image size.
    """
    changes: dict[str, Any] = {
        "kernel_size": kernel, "norm": norm, "layer_scale": layer_scale, "operator": operator,
        "num_classes": classes,
    }  # fmt: skip
    config = _network(name, gather(Numbers, values).values)
    config = replace(config, **{k: v for k, v in changes.items() if v is not None})
    if norm is not None:
        config = replace(config, stage_end_norm=norm != "post")
    row = count_row(config, image_size)
    if output is Format.json:
        print_json(row)
    else:
        print_rows([row])
    if verify:
        _verify(config, image_size)


def _network(name: str | None, given: Mapping[str, str]) -> ModelConfig:
    flags = {number: f"--{number.replace('_', '-')}" for number in ORIGIN.number_names()}
    if name and given:
        listed = ", ".join(flags[number] for number in given)
        raise ValueError(f"give a name ({name}) or numbers ({listed}), not both")
    if name:
        return variant_named(name).config()
    if missing := [flag for number, flag in flags.items() if number not in given]:
        raise ValueError(
            "count wants a name (T, S, B, L, XL, H), four numbers in one (64-16-4-18), or "
            f"{' '.join(flags.values())}; missing: {', '.join(missing)}"
        )
    return parse_variant("-".join(given[number] for number in flags)).config()


def _verify(config: ModelConfig, image_size: int) -> None:
    from archsearch.paper.cost_check import verify

    print("building the model and counting it with fvcore ...", file=sys.stderr)
    differences = verify(config, image_size)
    for line in differences:
        print(line, file=sys.stderr)
    if differences:
        raise Exit(1)
    print("closed form = built module = fvcore", file=sys.stderr)


def exponent(
    origin: Annotated[
        str, Argument(help="What is doubled in width: T, S, B, L, XL, or C1-C'-L1-L3.")
    ] = ORIGIN.name,
    output: AsFormat = Format.table,
) -> None:
    """Measure the exponent of alpha * beta^1.99 ~ 2.

    By doubling C1 at constant depth.
    """
    from archsearch.paper.exponents import exponents

    variant = parse_variant(origin)
    found = exponents(variant)
    if output is Format.json:
        print_json({"origin": variant.name, "exponents": [one.to_dict() for one in found]})
        return
    rows = [
        {"counted": one.counted, "exponent": f"{one.exponent:.3f}"}
        | {f"α {a:.2f} β {b:.2f}": f"{step:.3f}" for (a, b), step in one.steps.items()}
        for one in found
    ]
    print_rows(rows, title=f"{variant.name}: alpha * beta^exponent for the pairs of Table C")


def studies(output: AsFormat = Format.table) -> None:
    """List the studies of the paper, each one command.

    With the question, the source and the cost of each.
    """
    from archsearch.cli.catalogue import catalogue

    rows: list[dict[str, Any]] = catalogue()
    if output is Format.json:
        print_json(rows)
    else:
        print_blocks(rows)


COMMANDS = (count, exponent, studies)
