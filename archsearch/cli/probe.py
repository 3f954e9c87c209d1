"""Commands that look at a network: receptive field, sampling locations, robustness, throughput."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from archsearch.api.session import RUNS, say
from archsearch.cli.options import AsFormat, Format
from archsearch.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from archsearch.probes.networks import Network

Named = Annotated[
    str,
    Argument(
        help="T, S, B, L, XL, H, 64-16-4-18 (untrained); RUN:best or RUN:TRIAL; a weights file."
    ),
]
Picture = Annotated[str, Option("--image", help="An image file, or scikit-learn's china, flower.")]
Side = Annotated[int, Option("--size", min=32, help="Side that the image is brought to.")]
At = Annotated[str, Option("--at", help="The place asked for, as shares of the image: x,y.")]
To = Annotated[Path | None, Option("--out", help="Folder to write into. Default: runs/<command>.")]


def receptive_field(
    network: Named = "T",
    image: Picture = "china",
    size: Side = 224,
    at: At = "0.5,0.5",
    projections: Annotated[
        int, Option(min=1, help="Random sums of channels that the gradient is averaged over.")
    ] = 8,
    train_plain: Annotated[
        bool, Option(help="Train the plain CNN as the trial was, where there is one.")
    ] = True,
    out: To = None,
    output: AsFormat = Format.table,
) -> None:
    """Which pixels a place of each stage answers to.

    Beside those of a plain CNN, as in Fig. B.
    """
    from archsearch.probes.networks import open_network
    from archsearch.probes.photos import photo, point
    from archsearch.probes.receptive_field import compare
    from archsearch.reports import receptive_field as report

    place, picture = point(at), photo(image, size)
    found = open_network(network)
    if not found.trained:
        say(f"{found.label} has no trained weights: only its untrained receptive field is shown")
    elif found.trial is None:
        say("The plain CNN is shown untrained: there is no training of ours to repeat with it")
    _tell_size(found, size)
    fields = compare(found, picture, place, projections, train_plain)
    paths = report.render(picture, fields, _folder(out, "receptive-field"))
    _print(report.radii_table(fields, size).rows, output)
    _tell(paths)


def sampling_locations(
    network: Named = "T",
    image: Picture = "china",
    size: Side = 224,
    at: At = "0.5,0.5",
    block: Annotated[
        int, Option(help="Block of each stage, from 0, or from the end when negative.")
    ] = -1,
    out: To = None,
) -> None:
    """Where each group looks for one place of the image.

    Every group of each stage, as in Fig. 5.
    """
    from archsearch.probes.networks import open_network
    from archsearch.probes.photos import photo, point
    from archsearch.probes.sampling_locations import sampling_locations as locate
    from archsearch.reports import sampling_locations as report

    place, picture = point(at), photo(image, size)
    found = open_network(network)
    if not found.trained:
        say(f"{found.label} has no trained weights: every group samples the plain grid")
    _tell_size(found, size)
    stages = locate(found.model, found.input(picture), place, block)
    name = found.label if found.trained else f"{found.label}, untrained"
    _tell(report.render(picture, stages, _folder(out, "sampling-locations"), name))


def robustness(
    networks: Annotated[list[str], Argument(help="RUN:best, RUN:TRIAL or weights files.")],
    data: Annotated[
        str | None, Option(help="Images. Default: those that the network was trained on.")
    ] = None,
    images: Annotated[int, Option(min=1, help="At most so many validation images.")] = 1000,
    size: Annotated[
        int | None, Option(min=1, help="Side of the images. Default: the training's, or 224.")
    ] = None,
    out: To = None,
    output: AsFormat = Format.table,
) -> None:
    """How many predictions survive shifts and turns.

    Of the image, as in rows 1 and 2 of Fig. C.
    """
    from archsearch.probes.networks import open_network
    from archsearch.probes.robustness import PAPER_SIZE, SHIFTS, compare
    from archsearch.reports import robustness as report

    found = [open_network(name) for name in networks]
    if size is not None:
        found = [replace(network, image_size=size) for network in found]
    sizes = {n.image_size for n in found}
    if len(sizes) > 1:
        raise ValueError(f"networks for images of {sorted(sizes)} cannot share a picture")
    for name in (n.label for n in found if not n.trained):
        say(f"{name} has no trained weights: its predictions say nothing about images")
    (side,) = sizes
    if side != PAPER_SIZE:
        say(f"Images are {side} x {side}, not the paper's {PAPER_SIZE}: its shifts of 0 to "
            f"{SHIFTS[-1]} pixels become 0 to {round(SHIFTS[-1] * side / PAPER_SIZE)}")  # fmt: skip
    points = compare(found, data, images)
    paths = report.render(points, side, _folder(out, "robustness"))
    _print([vars(point) for point in points], output)
    _tell(paths)


def throughput(
    networks: Annotated[
        list[str] | None,
        Argument(help="Ours (B, B:unshared) and timm's (convnext_base); the first is the measure."),
    ] = None,
    preset: Annotated[
        Literal["small", "table-f", "table-g"], Option(help="Networks, sizes and batches.")
    ] = "small",
    size: Annotated[int | None, Option(min=1, help="Image size, in place of the preset's.")] = None,
    batch: Annotated[int | None, Option(min=1, help="Batch, in place of the preset's.")] = None,
    device: Annotated[str, Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[Literal["fp32", "bf16", "fp16"], Option()] = "fp32",
    rounds: Annotated[int, Option(min=1, help="How often all are measured in turn.")] = 5,
    out: To = None,
    output: AsFormat = Format.table,
) -> None:
    """Speed and memory beside other operators and networks.

    DCNv2-like weights and timm's networks, as in Tables F and G.
    """
    from archsearch.probes.throughput import SETTINGS, machine, measure
    from archsearch.reports import throughput as report

    setting = SETTINGS[preset]
    places = [(size or s, batch or b) for s, b in setting.at]
    rows = [
        row.to_dict()
        for s, b in dict.fromkeys(places)
        for row in measure(networks or setting.networks, s, b, device, precision, rounds)
    ]
    about = machine(device, precision, rounds)
    paths = report.render(rows, about, _folder(out, "throughput"))
    shown = [{k: v for k, v in row.items() if k not in ("paper", "note")} for row in rows]
    _print(rows if output is Format.json else shown, output)
    _tell(paths)


def _tell_size(network: "Network", size: int) -> None:
    """A network that never saw images of this size has maps here that it did not learn to use."""
    if network.trial and network.image_size != size:
        side = network.image_size
        say(f"{network.label} was trained on images of {side} x {side} and is looked at with "
            f"{size} x {size}, where its maps are larger: --size sets another")  # fmt: skip


def _folder(out: Path | None, command: str) -> Path:
    folder = out or RUNS / command
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _print(rows: Sequence[object], output: Format) -> None:
    if output is Format.json:
        print_json([dict(row) for row in rows])  # type: ignore[call-overload]
    else:
        print_rows(rows)  # type: ignore[arg-type]


def _tell(paths: Sequence[Path]) -> None:
    say("Written:\n" + "\n".join(f"  {path}" for path in paths))


COMMANDS = (receptive_field, sampling_locations, robustness, throughput)
