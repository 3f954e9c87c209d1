"""How do speed and size compare with the DCNv2-like variant and with other networks?"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from archsearch.core.cost import image_size as plain_size
from archsearch.core.numbers import ImageSize, parse_image_size
from archsearch.probes.comparison_networks import build, config_of, import_timm
from archsearch.study import About

if TYPE_CHECKING:
    import torch
    from torch import nn

Size = int | tuple[int, int]
"""The side of a square image, else (height, width)."""

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Supplement E (Tables F and G)",
    command="archsearch throughput",
    small="T at 64 x 64, four images at a time: a minute on a CPU",
    full="--preset table-f and --preset table-g on a GPU: minutes",
)


@dataclass(frozen=True)
class Row:
    """One network at one image size. Values that were not measured or counted are None.

    ``ratio`` is its images per second over the first network's: the median over the rounds of one
    run, in which all networks take turns; ``ratio_low`` and ``ratio_high`` are the lowest and the
    highest round. ``images_per_second`` depends on the machine and its load, so compare ratios.
    ``memory_bytes`` is the peak of a forward pass, with the weights. ``image_size`` is the side of
    a square image, else (height, width).
    """

    network: str
    image_size: int | tuple[int, int]
    batch: int
    params: int | None = None
    macs: int | None = None
    counted_by: str = ""
    uncounted: str = ""
    images_per_second: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    memory_bytes: int | None = None
    paper: Mapping[str, Any] | None = None
    note: str = ""


@dataclass(frozen=True)
class Setting:
    """Which networks are compared with the first of them, and at which (size, batch)."""

    networks: tuple[str, ...]
    at: tuple[tuple[int, int], ...]


SETTINGS = {
    "small": Setting(("T", "T:unshared", "convnext_tiny"), ((64, 4),)),
    "table-f": Setting(("B", "B:unshared", "convnext_base"), ((224, 256), (800, 2))),
    "table-g": Setting(("L", "swin_large_patch4_window12_384"), ((384, 16), (800, 4))),
}
"""RepLKNet-B and DAT-B of Table F are not in timm."""

NOTES: dict[tuple[str, Size], str] = {
    ("swin_large_patch4_window12_384", 800): "Table G's 451G is its 104G at 384 times the pixels; "
    "with windows of 12 Swin-L has 518G here, with windows of 7 472G"
}
"""Why a count differs from the paper's. The paper does not say which Swin-L it timed at 800."""

PAPER: dict[tuple[str, Size], dict[str, Any]] = {
    ("B", 224): {"params": "97M", "flops": "16G", "images_per_second": 775},
    ("B", 800): {"params": "97M", "flops": "206G", "images_per_second": 54},
    ("B:unshared", 224): {"params": "146M", "flops": "24G", "images_per_second": 311},
    ("B:unshared", 800): {"params": "146M", "flops": "313G", "images_per_second": 16},
    ("convnext_base", 224): {"params": "88M", "flops": "15G", "images_per_second": 881},
    ("convnext_base", 800): {"params": "88M", "flops": "196G", "images_per_second": 58},
    ("L", 384): {"params": "223M", "flops": "108G", "images_per_second": 148, "memory": "39G"},
    ("L", 800): {"params": "223M", "flops": "469G", "images_per_second": 33, "memory": "43G"},
    ("swin_large_patch4_window12_384", 384): {
        "params": "197M", "flops": "104G", "images_per_second": 183, "memory": "35G"},
    ("swin_large_patch4_window12_384", 800): {
        "params": "197M", "flops": "451G", "images_per_second": 39, "memory": "38G"},
}  # fmt: skip
"""Tables F and G: an A100; 256 images at 224 and 2 at 800, and 16 at 384 and 4 at 800."""


def measure(
    networks: Sequence[str],
    image_size: ImageSize,
    batch: int,
    device: str = "auto",
    precision: str = "fp32",
    rounds: int = 5,
    report: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> tuple[Row, ...]:
    """Return one row per network, in order; ratios are to the first network.

    A network that cannot be built because timm is missing keeps its row, with the reason, which is
    also passed to ``report``.

    Raises:
        ValueError: if no network has a given name, or the first one cannot be measured.
    """
    import torch

    from archsearch.training.device import device_of

    run_on = device_of(device)
    pixels = parse_image_size(image_size)
    size = plain_size(*pixels)
    rows: dict[str, Row] = {}
    models: dict[str, nn.Module] = {}
    for name in networks:
        at = (name, size)
        row = Row(name, size, batch, paper=PAPER.get(at), note=NOTES.get(at, ""))
        try:
            models[name] = build(name, size)
        except ImportError as error:
            report(f"{name} is left out: {error}")
            rows[name] = replace(row, note=str(error))
            continue
        rows[name] = counted(row, models[name])
    if networks[0] not in models:
        raise ValueError(f"{networks[0]} cannot be measured, and ratios are to this network")
    memory = {n: peak_memory(n, size, batch, run_on, precision) for n in models}
    images = torch.randn(batch, 3, *pixels, device=run_on)
    calls = {n: forward_pass(model.to(run_on), images, precision) for n, model in models.items()}
    for name, timing in interleaved(calls, batch, rounds).items():
        rows[name] = replace(rows[name], memory_bytes=memory[name], **timing)
    return tuple(rows.values())


def counted(row: Row, model: "nn.Module") -> Row:
    """Add parameters and multiply-adds, counted by fvcore in our convention.

    Our networks must equal the closed form. They are counted on a copy without memory, because
    fvcore runs the network that it counts.
    """
    import torch

    from archsearch.paper import cost_check

    config = config_of(row.network)
    if config is not None:
        check = cost_check.verification(config, *parse_image_size(row.image_size))
        assert not check.differences(), check.differences()
        cost = check.closed_form
        return replace(row, params=cost.params, macs=cost.macs, counted_by="fvcore, closed form")
    image = torch.zeros(1, 3, *parse_image_size(row.image_size))
    with torch.no_grad():
        by_fvcore, uncounted = cost_check.count_by_fvcore(model, image)
    return replace(
        row, params=by_fvcore.params, macs=by_fvcore.macs, counted_by="fvcore",
        uncounted=", ".join(uncounted),
    )  # fmt: skip


def forward_pass(model: "nn.Module", images: "torch.Tensor", precision: str) -> Callable[[], None]:
    """Return a call that runs ``model`` once and waits for the device to finish."""
    import torch

    from archsearch.training.device import autocast, synchronize

    def call() -> None:
        with torch.inference_mode(), autocast(precision, images.device):
            model(images)
        synchronize(images.device)

    return call


def interleaved(
    calls: Mapping[str, Callable[[], None]],
    batch: int,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, Any]]:
    """Time the calls in turns, A B A B, after one untimed call each.

    A ratio is taken within a round, so that a slowdown of the machine affects both its sides.
    """
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = clock()
            call()
            seconds[name].append(clock() - start)
    first = next(iter(seconds.values()))
    return {name: _timing(times, first, batch) for name, times in seconds.items()}


def _timing(times: Sequence[float], first: Sequence[float], batch: int) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(first, times, strict=True)]
    return {
        "images_per_second": batch / statistics.median(times),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


def peak_memory(
    name: str, image_size: Size, batch: int, device: "torch.device", precision: str
) -> int | None:
    """Return the peak bytes of building and one forward pass.

    On a GPU these are the tensors' bytes. On a CPU they are those of a separate process, because
    a process does not return freed memory; None if the system does not report them (not Linux).
    """
    if device.type == "cuda":
        return _peak(name, image_size, batch, device, precision)
    from archsearch.training.machine import in_new_process

    return in_new_process(_peak, name, image_size, batch, device, precision)


def _peak(
    name: str, image_size: Size, batch: int, device: "torch.device", precision: str
) -> int | None:
    import torch

    from archsearch.training.memory import PeakMemory

    if config_of(name) is None:
        import_timm()
    forward_pass(torch.nn.Linear(1, 1).to(device), torch.zeros(1, 1, device=device), precision)()
    before = PeakMemory(device).bytes()
    peak = PeakMemory(device)
    model = build(name, image_size).to(device)
    images = torch.randn(batch, 3, *parse_image_size(image_size), device=device)
    forward_pass(model, images, precision)()
    after = peak.bytes()
    return None if after is None or before is None else after - before


def machine(device: str, precision: str, rounds: int) -> dict[str, Any]:
    """Return the device, settings and versions of a measurement."""
    import torch

    from archsearch.core.versions import versions
    from archsearch.training.device import device_name, device_of

    return {
        "device": device_name(device_of(device)),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "rounds": rounds,
        "versions": versions(),
    }
