"""How fast and how large is it beside its DCNv2-like variant and other people's networks?"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from archsearch.families.internimage import parse_network
from archsearch.study import About
from internimage.config import PRESETS, ModelConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Supplement E (Tables F and G)",
    command="archsearch throughput",
    small="T at 64 x 64, four images at a time: a minute on a CPU",
    full="--preset table-f and --preset table-g on a GPU: minutes",
)

UNSHARED = "unshared"
"""``B:unshared``: B with a projection for every sampling point and one group, as DCNv2 has."""


@dataclass(frozen=True)
class Row:
    """One network at one image size. What was not measured or not counted is None.

    ``ratio`` is its images a second over the first network's: the median over the rounds of one
    run, in which all take turns, with the lowest and the highest round beside it.
    ``images_per_second`` depends on the machine and its load; compare ratios. ``memory_bytes`` is
    the peak of a forward pass, the weights included.
    """

    network: str
    image_size: int
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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Setting:
    """Which networks are held against the first of them, and at which (size, batch)."""

    networks: tuple[str, ...]
    at: tuple[tuple[int, int], ...]


SETTINGS = {
    "small": Setting(("T", "T:unshared", "convnext_tiny"), ((64, 4),)),
    "table-f": Setting(("B", "B:unshared", "convnext_base"), ((224, 256), (800, 2))),
    "table-g": Setting(("L", "swin_large_patch4_window12_384"), ((384, 16), (800, 4))),
}
"""RepLKNet-B and DAT-B of Table F are not in timm."""

NOTES = {
    ("swin_large_patch4_window12_384", 800): "Table G's 451G is its 104G at 384 times the pixels; "
    "with windows of 12 Swin-L has 518G here, with windows of 7 472G"
}
"""Why a count is not the paper's. Which Swin-L was timed at 800 is not said."""

PAPER: dict[tuple[str, int], dict[str, Any]] = {
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


def config_of(name: str) -> ModelConfig | None:
    """The configuration of one of our networks; None for a name that must be timm's.

    Raises:
        ValueError: a suffix other than ``:unshared``.
    """
    base, colon, operator = name.partition(":")
    if colon and operator != UNSHARED:
        raise ValueError(f"{name}: the only variant is {base}:{UNSHARED}")
    if base.upper() not in PRESETS and not base.replace("-", "").isdigit():
        return None
    config = parse_network(base).config()
    if not colon:
        return config
    return replace(config, operator="dcnv3-unshared", groups=(1, 1, 1, 1))


def build(name: str, image_size: int) -> "nn.Module":
    """The network in evaluation mode, with random weights.

    Raises:
        ImportError: it is timm's, and timm does not import here.
        ValueError: nothing is called so.
    """
    from internimage.model import InternImage

    config = config_of(name)
    if config is not None:
        return InternImage(config).eval()
    timm = import_timm()
    if name not in timm.list_models(name):
        raise ValueError(f"{name!r} is no network of ours (T, B:unshared, ...) and none of timm's")
    # Only networks with windows or position embeddings want to know the size of the image.
    sized = {"img_size": image_size} if "swin" in name or "vit" in name else {}
    return timm.create_model(name, pretrained=False, **sized).eval()  # type: ignore[no-any-return]


def import_timm() -> Any:
    """The package timm, which needs a torchvision that fits the installed torch.

    Raises:
        ImportError: saying what is in the way, and what to install.
    """
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # torchvision beside another torch: RuntimeError
        raise ImportError(
            f"timm does not import here ({error}): pip install 'archsearch[baselines]', with the "
            "torchvision that belongs to your torch"
        ) from error
    return timm


def measure(
    networks: Sequence[str],
    image_size: int,
    batch: int,
    device: str = "auto",
    precision: str = "fp32",
    rounds: int = 5,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> tuple[Row, ...]:
    """One row per network, in the order given; the first is what the others are held against.

    A network that cannot be built because timm is absent keeps its row, with the reason.

    Raises:
        ValueError: nothing is called so, or the first network cannot be measured.
    """
    import torch

    from archsearch.training.device import device_of

    place = device_of(device)
    rows: dict[str, Row] = {}
    models: dict[str, nn.Module] = {}
    for name in networks:
        at = (name, image_size)
        row = Row(name, image_size, batch, paper=PAPER.get(at), note=NOTES.get(at, ""))
        try:
            models[name] = build(name, image_size)
        except ImportError as error:
            say(f"{name} is left out: {error}")
            rows[name] = replace(row, note=str(error))
            continue
        rows[name] = counted(row, models[name])
    if networks[0] not in models:
        raise ValueError(f"{networks[0]} cannot be measured, and the others are held against it")
    memory = {n: peak_memory(n, image_size, batch, place, precision) for n in models}
    images = torch.randn(batch, 3, image_size, image_size, device=place)
    calls = {n: forward_pass(model.to(place), images, precision) for n, model in models.items()}
    for name, timing in interleaved(calls, batch, rounds).items():
        rows[name] = replace(rows[name], memory_bytes=memory[name], **timing)
    return tuple(rows.values())


def counted(row: Row, model: "nn.Module") -> Row:
    """Parameters and multiply-adds by fvcore in our convention; ours have to equal the closed form.

    Ours are counted on a copy that takes no memory, as fvcore runs what it counts.
    """
    import torch

    from archsearch.paper import cost_check

    config = config_of(row.network)
    if config is not None:
        found = cost_check.measure(config, row.image_size)
        assert not found.differences(), found.differences()
        cost = found.closed_form
        return replace(row, params=cost.params, macs=cost.macs, counted_by="fvcore, closed form")
    image = torch.zeros(1, 3, row.image_size, row.image_size)
    with torch.no_grad():
        by_fvcore, uncounted = cost_check.count_module(model, image)
    return replace(
        row, params=by_fvcore.params, macs=by_fvcore.macs, counted_by="fvcore",
        uncounted=", ".join(uncounted),
    )  # fmt: skip


def forward_pass(model: "nn.Module", images: "torch.Tensor", precision: str) -> Callable[[], None]:
    """A call that runs ``model`` once, to the end of the device's work."""
    import torch

    from archsearch.training.device import DTYPES

    dtype, place = DTYPES[precision], images.device

    def call() -> None:
        with (
            torch.inference_mode(),
            torch.autocast(place.type, dtype, enabled=dtype != torch.float32),
        ):
            model(images)
        if place.type == "cuda":
            torch.cuda.synchronize(place)

    return call


def interleaved(
    calls: Mapping[str, Callable[[], None]],
    batch: int,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, Any]]:
    """Time the calls in turns, A B A B, after one call each that is not timed.

    A ratio is taken within a round, so that a machine that slows down slows both sides of it.
    """
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begun = clock()
            call()
            seconds[name].append(clock() - begun)
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
    name: str, image_size: int, batch: int, place: "torch.device", precision: str
) -> int | None:
    """Peak bytes of building and one forward pass: tensors on a GPU, the process on a CPU.

    On a CPU in a process of its own, because memory that was freed is not given back; None where
    the system does not tell (not Linux).
    """
    if place.type == "cuda":
        return _peak(name, image_size, batch, place, precision)
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_peak, name, image_size, batch, place, precision).result()


def _peak(
    name: str, image_size: int, batch: int, place: "torch.device", precision: str
) -> int | None:
    import torch

    from archsearch.training.memory import PeakMemory

    if config_of(name) is None:
        import_timm()
    forward_pass(torch.nn.Linear(1, 1).to(place), torch.zeros(1, 1, device=place), precision)()
    before = PeakMemory(place).bytes()
    peak = PeakMemory(place)
    model = build(name, image_size).to(place)
    images = torch.randn(batch, 3, image_size, image_size, device=place)
    forward_pass(model, images, precision)()
    found = peak.bytes()
    return None if found is None or before is None else found - before


def machine(device: str, precision: str, rounds: int) -> dict[str, Any]:
    """What the figures were measured on."""
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
