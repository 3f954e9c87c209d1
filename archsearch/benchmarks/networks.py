"""Whole networks beside ours in one run: ``python -m archsearch.benchmarks.train_step --networks``.

- ``ours``: InternImage as users get it.
- ``composed``: the same with the chains of torch operators that the fused operators replace.
- ``official``: the same weights as the released code computes them without its CUDA operator: two
  Linears for offset and mask, softmax, and `grid_sample` for the sum.
- ``ConvNeXt``: the network of that size, as plain torch computes it in channels-last memory.

``forward`` is inference of the network in evaluation mode; ``step`` is forward, cross-entropy,
backward and AdamW. The networks take turns and the best round counts. With one thread the clock is
that of the processor, so that other processes do not count. ``peak_bytes`` is the largest total
of the tensors that one call allocates, without parameters, AdamW's state and scratch memory of
kernels.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from archsearch.families.convnext import ConvNeXt
from archsearch.families.convnext_model import ConvNeXtModel
from cuda_ops.geometry import ConvArgs
from cuda_ops.timing import grid_sample_dcnv3
from cuda_ops.toolchain import cpu_model
from internimage import DCNv3, create_model
from internimage.conv import TINY

NETWORKS = ("ours", "composed", "official", "ConvNeXt")
NUM_CLASSES = 1000
SIZES = {"T": 0.1, "B": 0.5}
"""Sizes that are compared, and ConvNeXt's drop path rates on ImageNet-1K (its paper's Table 5)."""


@dataclass(frozen=True)
class Call:
    """One kind of call: the size of the networks, images, and forward or step."""

    model: str
    batch: int
    height: int
    width: int
    direction: str
    threads: int

    @property
    def features_only(self) -> bool:
        """Maps that are not square are those of detection, which has no head."""
        return self.height != self.width

    def inputs(self) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(0)
        images = torch.randn(self.batch, 3, self.height, self.width, generator=source)
        return images, torch.randint(NUM_CLASSES, (self.batch,), generator=source)


def official_forward(layer: DCNv3, x: Tensor) -> Tensor:
    """The layer as the released code computes it in PyTorch alone."""
    conv = layer.dw_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    side = F.gelu(layer.dw_norm(conv))
    args = ConvArgs(layer.groups, softmax=True)
    y = grid_sample_dcnv3(layer.input_proj(x), layer.offset(side), layer.mask(side), args)
    out: Tensor = layer.output_proj(y)
    return out


@contextmanager
def computed_as(name: str) -> Iterator[None]:
    """Compute our networks as ``ours``, ``composed`` or ``official`` (T and B only).

    ``ConvNeXt`` computes without the faster path for tiny maps, too.
    """
    if name == "ours":
        yield
        return
    with (
        patch("internimage.conv.TINY", 0 if name == "ConvNeXt" else TINY),
        patch("internimage.dcnv3.runs_native", lambda *_: False),
        patch("internimage.model.runs_native", lambda *_: False),
        patch.object(DCNv3, "forward", official_forward if name == "official" else DCNv3.forward),
    ):
        yield


def build(name: str, call: Call) -> nn.Module:
    torch.manual_seed(0)
    if name == "ConvNeXt":
        variant = ConvNeXt.named()[call.model]
        return ConvNeXtModel(
            variant.channels,
            variant.depths,
            drop_path=SIZES[call.model],
            num_classes=NUM_CLASSES,
            features_only=call.features_only,
        )
    return create_model(call.model, num_classes=NUM_CLASSES, features_only=call.features_only)


def runner(
    name: str, network: nn.Module, call: Call, optimizer: torch.optim.Optimizer
) -> Callable[[], None]:
    """Return a function that makes the call once with a network."""
    images, labels = call.inputs()

    def forward() -> None:
        with computed_as(name), torch.inference_mode():
            network.eval()(images)

    def step() -> None:
        with computed_as(name):
            loss = F.cross_entropy(network.train()(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

    return forward if call.direction == "forward" else step


def runners(call: Call) -> dict[str, Callable[[], None]]:
    """Return a function per network that makes the call once; ours share one network."""
    ours, other = build("ours", call), build("ConvNeXt", call)
    optimizers = {net: torch.optim.AdamW(net.parameters(), lr=1e-5) for net in (ours, other)}
    nets = {name: other if name == "ConvNeXt" else ours for name in NETWORKS}
    return {name: runner(name, net, call, optimizers[net]) for name, net in nets.items()}


def best_seconds(
    calls: Mapping[str, Callable[[], None]], rounds: int, one_thread: bool
) -> dict[str, float]:
    """Return the least seconds of each call, after one round that is not timed."""
    clock = time.process_time if one_thread else time.perf_counter
    best = dict.fromkeys(calls, float("inf"))
    for round_ in range(rounds + 1):
        for name, run in calls.items():
            start = clock()
            run()
            if round_ > 0:
                best[name] = min(best[name], clock() - start)
    return best


def peak_bytes(run: Callable[[], None]) -> int:
    """Return the largest total of the tensors that a call allocates and has not yet freed."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return max(accumulate(changes), default=0)


def measure(call: Call, rounds: int) -> dict[str, Any]:
    """Return seconds and peak memory by network; ``times_faster`` are ratios to ours."""
    torch.set_num_threads(call.threads)
    runs = runners(call)
    best = best_seconds(runs, rounds, call.threads == 1)
    return {
        "model": call.model,
        "batch": call.batch,
        "image_size": [call.height, call.width],
        "direction": call.direction,
        "threads": call.threads,
        "device": cpu_model(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "seconds": best,
        "times_faster": {name: best[name] / best["ours"] for name in NETWORKS if name != "ours"},
        "peak_bytes": {name: peak_bytes(run) for name, run in runs.items()},
    }


def calls(model: str, batch: int, size: str, threads: int) -> Iterator[Call]:
    """Return forward and step of one image size, such as 224 or 800x1333 (forward only)."""
    height, _, width = size.partition("x")
    forward = Call(model, batch, int(height), int(width or height), "forward", threads)
    yield forward
    if not forward.features_only:
        yield Call(model, batch, int(height), int(height), "step", threads)


def table(paths: Iterable[Path]) -> str:
    """Return the Markdown table of stored measurements, after the processors' names."""
    rows = [row for path in paths for row in json.loads(path.read_text())["rows"]]
    machines = {f"{row['device']} ({row['vectors']}), torch {row['torch']}" for row in rows}
    header = (
        "| network, images, threads | call | ours | without fused operators | official PyTorch "
        "| ConvNeXt | peak memory of the four |"
    )
    title = f"Measured on {' and '.join(sorted(machines))}:"
    return "\n".join([title, "", header, "|---|---|---|---|---|---|---|", *map(line, rows)])


def line(row: dict[str, Any]) -> str:
    """Return the table's line of one measurement."""
    height, width = row["image_size"]
    size = str(height) if height == width else f"{height}x{width}"
    ratios = (f"{row['times_faster'][name]:.2f}x" for name in NETWORKS[1:])
    peaks = ", ".join(f"{row['peak_bytes'][name] / 1e6:.0f}" for name in NETWORKS)
    return (
        f"| {row['model']}, {row['batch']} of {size}, {row['threads']} | {row['direction']} "
        f"| {row['seconds']['ours'] * 1e3:.0f} ms | {' | '.join(ratios)} | {peaks} MB |"
    )
