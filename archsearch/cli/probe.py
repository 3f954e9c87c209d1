"""Commands on one network: receptive field, sampling locations, robustness, throughput."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from archsearch.api.live import say
from archsearch.api.session import RUNS
from archsearch.cli.options import AsFormat, Format
from archsearch.cli.output import print_json, print_rows
from archsearch.core.numbers import LARGEST, parse_image_size

if TYPE_CHECKING:
    from archsearch.probes.networks import Network

MAX_SIDE = 16_384
"""Pixels: the largest side of an image that a probe resizes to."""

NetworkName = Annotated[
    str,
    Argument(
        help="Use this network: T, S, B, L, XL, H or 64-16-4-18 (untrained), RUN:best, RUN:TRIAL, "
        "or a weights file."
    ),
]
ImageName = Annotated[
    str, Option("--image", help="Use this image file, or china or flower from scikit-learn.")
]
ImageSize = Annotated[
    int, Option("--size", min=32, max=MAX_SIDE, help="Resize the image to this side.")
]
QueryPixel = Annotated[
    str,
    Option("--at", help="Choose the query pixel x,y as fractions of the image's width and height."),
]
MaxImages = Annotated[
    int, Option(min=1, max=LARGEST, help="Use at most this many validation images.")
]
OutFolder = Annotated[
    Path | None, Option("--out", help="Write to this folder; the default is runs/<command>.")
]


def receptive_field(
    network: NetworkName = "T",
    image: ImageName = "china",
    size: ImageSize = 224,
    at: QueryPixel = "0.5,0.5",
    projections: Annotated[
        int,
        Option(
            min=1, max=LARGEST, help="Average the gradient over this many random sums of channels."
        ),
    ] = 8,
    train_plain: Annotated[
        bool, Option(help="Train the plain CNN like the network, if the network is from a run.")
    ] = True,
    out: OutFolder = None,
    output: AsFormat = Format.table,
) -> None:
    """Plot the effective receptive field of each stage.

    A plain CNN is shown for comparison, as in Fig. B.
    """
    from archsearch.probes.networks import open_network
    from archsearch.probes.photos import parse_point, photo
    from archsearch.probes.receptive_field import compare
    from archsearch.reports import receptive_field as report

    query, picture = parse_point(at), photo(image, size)
    opened = open_network(network)
    if not opened.trained:
        say(f"{opened.label} has no trained weights: its receptive field is that before training")
    elif opened.trial is None:
        say("The plain CNN is untrained, because the training of these weights is not known")
    _warn_about_size(opened, size)
    fields = compare(opened, picture, query, projections, train_plain)
    paths = report.render(picture, fields, new_folder(out, "receptive-field"))
    print_values(report.radii_table(fields, size).rows, output)
    say_written(paths)


def sampling_locations(
    network: NetworkName = "T",
    image: ImageName = "china",
    size: ImageSize = 224,
    at: QueryPixel = "0.5,0.5",
    block: Annotated[
        int,
        Option(
            min=-LARGEST,
            max=LARGEST,
            help="Use this block of each stage, counted from 0; negative counts from the end.",
        ),
    ] = -1,
    out: OutFolder = None,
) -> None:
    """Plot the sampling points of a query pixel.

    The plots show every group of each stage, as in Fig. 5.
    """
    from archsearch.probes.networks import open_network
    from archsearch.probes.photos import parse_point, photo
    from archsearch.probes.sampling_locations import sampling_locations as locate
    from archsearch.reports import sampling_locations as report

    query, picture = parse_point(at), photo(image, size)
    opened = open_network(network)
    if not opened.trained:
        say(f"{opened.label} has no trained weights: every group samples the regular grid")
    _warn_about_size(opened, size)
    stages = locate(opened.model, opened.input(picture), query, block)
    name = opened.label if opened.trained else f"{opened.label}, untrained"
    say_written(report.render(picture, stages, new_folder(out, "sampling-locations"), name))


def robustness(
    networks: Annotated[
        list[str], Argument(help="Compare these networks: RUN:best, RUN:TRIAL or weights files.")
    ],
    data: Annotated[
        str | None, Option(help="Use these images; the default is the network's training data.")
    ] = None,
    images: MaxImages = 1000,
    size: Annotated[
        int | None,
        Option(
            min=1,
            max=MAX_SIDE,
            help="Resize images to this side; the default is the training's, or 224.",
        ),
    ] = None,
    out: OutFolder = None,
    output: AsFormat = Format.table,
) -> None:
    """Test prediction consistency under shift and rotation.

    The plot shows the share of predictions that stay, as in rows 1 and 2 of Fig. C.
    """
    from archsearch.probes.networks import open_network
    from archsearch.probes.robustness import PAPER_SIZE, SHIFTS, compare
    from archsearch.reports import robustness as report

    opened = [open_network(name) for name in networks]
    if size is not None:
        opened = [replace(network, image_size=size) for network in opened]
    sizes = {n.image_size for n in opened}
    if len(sizes) > 1:
        raise ValueError(f"networks for images of sizes {sorted(sizes)} cannot share one plot")
    for name in (n.label for n in opened if not n.trained):
        say(f"{name} has no trained weights: its predictions mean nothing")
    (side,) = sizes
    if side != PAPER_SIZE:
        say(f"Images are {side} x {side}, not the paper's {PAPER_SIZE}: its shifts of 0 to "
            f"{SHIFTS[-1]} pixels become 0 to {round(SHIFTS[-1] * side / PAPER_SIZE)}")  # fmt: skip
    points = compare(opened, data, images)
    paths = report.render(points, side, new_folder(out, "robustness"))
    print_values([vars(point) for point in points], output)
    say_written(paths)


def throughput(
    networks: Annotated[
        list[str] | None,
        Argument(
            help="Measure our networks (B, B:unshared) and timm's (convnext_base); ratios are to "
            "the first."
        ),
    ] = None,
    preset: Annotated[
        Literal["small", "table-f", "table-g"],
        Option(help="Use the networks, image sizes and batches of this preset."),
    ] = "small",
    size: Annotated[
        str | None,
        Option(
            metavar="SIDE|HEIGHTxWIDTH",
            help="Use this image size, such as 384 or 800x1333 (height x width), instead of the "
            "preset's.",
        ),
    ] = None,
    batch: Annotated[
        int | None, Option(min=1, max=LARGEST, help="Use this batch size instead of the preset's.")
    ] = None,
    device: Annotated[str, Option(help="Run on auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], Option(help="Run in this floating-point format.")
    ] = "fp32",
    rounds: Annotated[
        int, Option(min=1, max=LARGEST, help="Measure all networks in turn, this many times.")
    ] = 5,
    out: OutFolder = None,
    output: AsFormat = Format.table,
) -> None:
    """Compare speed and memory with other networks.

    These are the DCNv2-like variant and networks of timm, as in Tables F and G.
    """
    from archsearch.probes.throughput import SETTINGS, machine, measure
    from archsearch.reports import throughput as report

    setting = SETTINGS[preset]
    if size is not None:
        parse_image_size(size, "--size")
    sizes_and_batches = dict.fromkeys((size or s, batch or b) for s, b in setting.at)
    rows = [
        asdict(row)
        for s, b in sizes_and_batches
        for row in measure(networks or setting.networks, s, b, device, precision, rounds)
    ]
    about = machine(device, precision, rounds)
    paths = report.render(rows, about, new_folder(out, "throughput"))
    shown = [{k: v for k, v in row.items() if k not in ("paper", "note")} for row in rows]
    print_values(rows if output is Format.json else shown, output)
    say_written(paths)


def _warn_about_size(network: "Network", size: int) -> None:
    """Warn that a network's maps differ from those it was trained with, if the size does."""
    if network.trial and network.image_size != size:
        side = network.image_size
        say(
            f"{network.label} was trained on images of {side} x {side}, this image is {size} x "
            f"{size}: its feature maps are not of the size in training (see --size)"
        )


def new_folder(out: Path | None, command: str) -> Path:
    """Return the folder of a command's files, made if it is absent."""
    folder = out or RUNS / command
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def print_values(rows: Sequence[object], output: Format) -> None:
    """Print what a probe measured, as a table or as JSON."""
    if output is Format.json:
        print_json([dict(row) for row in rows])  # type: ignore[call-overload]
    else:
        print_rows(rows)  # type: ignore[arg-type]


def say_written(paths: Sequence[Path]) -> None:
    """Print the files that were written."""
    say("Written:\n" + "\n".join(f"  {path}" for path in paths))


COMMANDS = (receptive_field, sampling_locations, robustness, throughput)
