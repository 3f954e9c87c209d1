"""Commands that train nothing: cost of a network, exponent, list of studies, this machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Option

from archsearch.api.families import FamilyOptions, network_named, refuse_internimage_options
from archsearch.api.heads import HeadOptions
from archsearch.api.keywords import evaluate_all, from_options, number_options
from archsearch.api.live import say
from archsearch.cli.options import AsFormat, Format, ImageSize, with_options
from archsearch.cli.output import print_blocks, print_json, print_rows
from archsearch.core.closed_form import NUM_CLASSES, cost_of
from archsearch.core.cost import Cost
from archsearch.core.counted_cost import counted_cost
from archsearch.core.family import Family
from archsearch.core.numbers import LARGEST, parse_image_size, size_text
from archsearch.families.internimage import ORIGIN, Explicit, InternImageFamily, parse_variant
from archsearch.families.internimage_cost import count_row
from archsearch.heads.cost import HEADS, HeadCost
from internimage.config import ModelConfig

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class VariantNumbers:
    """The numbers of a variant, one option each."""

    values: Mapping[str, str] = number_options(
        ORIGIN.number_names(), "Count the InternImage with this {name}; give all four numbers."
    )


@dataclass(frozen=True)
class Counted:
    """A row of numbers, and how a count of the built network differs from it."""

    row: dict[str, Any]
    differences: Callable[[], list[str]]
    compared: str = "built module"


@with_options(FamilyOptions, HeadOptions, VariantNumbers)
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
        int | None,
        Option(
            min=1,
            max=LARGEST,
            help="Count this many classes instead of 1000, and with a head instead of COCO's 80 or "
            "ADE20K's 150.",
        ),
    ] = None,
    verify: Annotated[
        bool,
        Option(
            "--verify",
            help="Also count the built model (InternImage's without a head with fvcore); exit 1 "
            "if they differ.",
        ),
    ] = False,
    output: AsFormat = Format.table,
    **values: Any,
) -> None:
    """Count the parameters and multiply-adds of a network.

    Activations are counted too. InternImage is counted in closed form, for any image size; a
    family without a closed form on the meta device. With --head, a detector or segmenter.
    """
    changes: dict[str, Any] = {
        "kernel": kernel, "norm": norm, "layer_scale": layer_scale, "operator": operator,
    }  # fmt: skip
    changes = {name: value for name, value in changes.items() if value is not None}
    options = from_options(FamilyOptions, values)
    heads = from_options(HeadOptions, values)
    network, pixels, _ = evaluate_all(
        lambda: _network(name, options, from_options(VariantNumbers, values).values, changes),
        lambda: parse_image_size(image_size, "--image-size"),
        lambda: heads.checked(verify),
    )
    if isinstance(network, InternImageFamily):
        config = _config(network, changes, classes)
        counted = _of_config(config, heads, classes, *pixels)
    else:
        counted = _of_family(network, heads, classes, *pixels)
    if output is Format.json:
        print_json(counted.row)
    else:
        print_rows([counted.row | {"image_size": size_text(counted.row["image_size"])}])
    if verify:
        _verify(counted)


def _verify(counted: Counted) -> None:
    """Say how the built network differs from the closed form.

    Raises:
        Exit: with 1 if it does.
    """
    differences = counted.differences()
    for line in differences:
        say(line)
    if differences:
        raise Exit(1)
    say(f"closed form = {counted.compared}")


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


def _config(
    network: InternImageFamily, changes: Mapping[str, Any], classes: int | None
) -> ModelConfig:
    names = {"kernel": "kernel_size"}
    changed = {names.get(name, name): value for name, value in changes.items()}
    config = replace(network.config(), num_classes=classes or NUM_CLASSES, **changed)
    norm = changes.get("norm")
    return config if norm is None else replace(config, stage_end_norm=norm != "post")


def _of_config(
    config: ModelConfig, heads: HeadOptions, classes: int | None, height: int, width: int
) -> Counted:
    row = count_row(config, height, width)
    if heads.head is not None:
        return _with_head(Explicit("network", config), row, heads, classes, height, width)
    return Counted(row, lambda: _differences(config, height, width), "built module = fvcore")


def _of_family(
    network: Family, heads: HeadOptions, classes: int | None, height: int, width: int
) -> Counted:
    if heads.head is not None:
        return _with_head(network, network.params(), heads, classes, height, width)
    size = (height, width, classes or NUM_CLASSES)
    cost = cost_of(network, *size)
    row = {**network.params(), "num_classes": size[2], **vars(cost)}
    return Counted(row, lambda: _differences_of_built(cost, counted_cost(network, *size)))


def _with_head(
    network: Family,
    numbers: Mapping[str, Any],
    heads: HeadOptions,
    classes: int | None,
    height: int,
    width: int,
) -> Counted:
    """Count the network with a head; ``numbers`` are those of the network alone."""
    cost = heads.cost(network, height, width, classes)
    values = vars(cost)
    own = {name: value for name, value in numbers.items() if name not in values}
    shown = ("head", "num_classes", "image_size", "params", heads.convention, "activations")
    row = {**own, **{name: values[name] for name in shown}}
    compared = "built module" if HEADS[cost.head].is_own else "built module in parameters"
    return Counted(row, lambda: _differences_of_head(network, cost, heads, height, width), compared)


def _differences_of_head(
    network: Family, cost: HeadCost, heads: HeadOptions, height: int, width: int
) -> list[str]:
    """Return the differences to the built network; in parameters alone if its head is not ours."""
    from archsearch.core.meta_cost import count_module, count_params
    from archsearch.heads.built import build

    def built() -> "nn.Module":
        backbones = [network.build_backbone() for _ in range(1 + heads.two_backbones)]
        return build(cost.head, *backbones, num_classes=cost.num_classes)

    if HEADS[cost.head].is_own:
        return _differences_of_built(cost, count_module(built, height, width))
    return _differences_of_built(cost, replace(cost, params=count_params(built)))


def _differences_of_built(cost: Cost, built: Cost) -> list[str]:
    """Return how a closed form differs from a count of the built network on the meta device."""
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
