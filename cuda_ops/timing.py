"""What the benchmark times, and how: shapes, columns, clocks, and the floor."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops.geometry import Window
from cuda_ops.ops import dcnv3
from cuda_ops.reference import dcnv3_torch

Operator = Callable[[Tensor, Tensor, Tensor], Tensor]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 31}
ROUNDS = {"cpu": 7, "cuda": 30}
SLEEP_CLOCKS = 2_000_000  # of the GPU's: about a millisecond


@dataclass(frozen=True)
class Shape:
    """One stage's operator: kernel 3, stride 1, padding 1, 16 channels a group."""

    name: str
    num_images: int
    height: int
    width: int
    groups: int

    def tensors(self, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """x, offsets of a standard deviation of one pixel, and logits."""
        pixels = (self.num_images, self.height, self.width)
        channels = (16 * self.groups, 18 * self.groups, 9 * self.groups)
        x, offset, mask = (torch.randn(*pixels, c, device=device).to(dtype) for c in channels)
        return x, offset, mask

    def floor_bytes(self, direction: str, element_size: int) -> int:
        """59 elements a pixel and group forward: 16 + 27 in, 16 out; 102 backward."""
        pairs = self.num_images * self.height * self.width * self.groups
        return pairs * (59 if direction == "forward" else 102) * element_size


# Width of a stage's map and groups; T's C' is 16 everywhere, and so is B's.
STAGES = {
    "t224": [(56, 56, 4), (28, 28, 8), (14, 14, 16), (7, 7, 32)],
    "b800": [(200, 334, 7), (100, 167, 14), (50, 84, 28), (25, 42, 56)],
    "t32": [(8, 8, 4), (4, 4, 8), (2, 2, 16), (1, 1, 32)],
}
BATCH = {
    "cpu": {"t224": 8, "b800": 1, "t32": 64},
    "cuda": {"t224": 64, "b800": 1, "t32": 64},
}


def shapes(names: list[str], device: str, batch: int | None) -> list[Shape]:
    """The stage shapes of T at 224x224, of B at 800x1333, of T at 32x32."""
    return [
        Shape(f"{name} stage {i}", batch or BATCH[device][name], *stage)
        for name in names
        for i, stage in enumerate(STAGES[name], start=1)
    ]


def grid_sample_dcnv3(x: Tensor, offset: Tensor, mask: Tensor, window: Window) -> Tensor:
    """The operator as it is usually written without a kernel of its own (square, stride 1)."""
    n, height, width, channels = x.shape
    groups, points = window.groups, window.num_points
    images = x.reshape(n, height, width, groups, -1).permute(0, 3, 4, 1, 2).flatten(0, 1)
    tap = torch.tensor(window.taps(), device=x.device, dtype=x.dtype) - window.half_extent
    rows, columns = (torch.arange(size, device=x.device) for size in (height, width))
    pixel = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    position = pixel[None, :, :, None, None] + (tap + offset.reshape(*x.shape[:3], groups, -1, 2))
    grid = (2 * position + 1) / torch.tensor([width, height], device=x.device) - 1
    grid = grid.permute(0, 3, 1, 2, 4, 5).reshape(n * groups, height * width, points, 2)
    sampled = F.grid_sample(images, grid.to(x.dtype), align_corners=False)
    weight = mask.reshape(n, height * width, groups, points).softmax(-1).transpose(1, 2)
    out = (sampled * weight.reshape(n * groups, 1, height * width, points)).sum(-1)
    return out.reshape(n, channels, height, width).permute(0, 2, 3, 1).contiguous()


def operators(shape: Shape, device: str) -> dict[str, Operator]:
    """What is timed, by column."""
    window = Window(shape.groups, softmax=True)
    return {
        "torch": lambda x, offset, mask: dcnv3_torch(x, offset, mask, window),
        "grid_sample": lambda x, offset, mask: grid_sample_dcnv3(x, offset, mask, window),
        "ours": lambda x, offset, mask: dcnv3(
            x, offset, mask, groups=shape.groups, softmax=True, backend=device
        ),
    }


def seconds_cpu(call: Callable[[], object]) -> float:
    """With one thread, of the processor: time taken by others does not count."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    call()
    return clock() - started


def seconds_cuda(call: Callable[[], object]) -> float:
    """Of the device alone, where the host queues its launches within about a millisecond.

    So long the device sleeps, after a cleared buffer has emptied its cache. A call of hundreds of
    launches, such as the eager reference, takes the host longer than that: there it is the host's
    time that is measured.
    """
    torch.empty(1 << 28, dtype=torch.int8, device="cuda").zero_()
    torch.cuda._sleep(SLEEP_CLOCKS)  # type: ignore[no-untyped-call]
    start, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def best_of_rounds(calls: dict[str, Callable[[], object]], device: str) -> dict[str, float]:
    """Least seconds of each call; all take turns, after one untimed turn."""
    clock = seconds_cuda if device == "cuda" else seconds_cpu
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(ROUNDS[device] + 1):
        for name, call in calls.items():
            # A short call is repeated, or one disturbance decides.
            for _ in range(1 if turn == 0 or best[name] > 3e-3 else 5):
                taken = clock(call)
                if turn > 0:
                    best[name] = min(best[name], taken)
    return best


def bandwidth(device: str) -> float:
    """Bytes a second of a large copy, reads and writes counted."""
    source = torch.empty(COPY_BYTES[device], dtype=torch.int8, device=device).fill_(1)
    target = torch.empty_like(source).fill_(0)
    best = best_of_rounds({"copy": lambda: target.copy_(source)}, device)["copy"]
    return 2 * source.numel() / best


def measure(
    shape: Shape, dtype: torch.dtype, device: str, rate: float, more: dict[str, Any]
) -> list[dict[str, Any]]:
    """One row for forward and one for backward. `more` makes further operators of a group count.

    An operator that fails, our own apart, has None for its seconds, and its reason in the row.
    """
    inputs = [tensor.requires_grad_() for tensor in shape.tensors(dtype, device)]
    columns = operators(shape, device) | {name: make(shape.groups) for name, make in more.items()}
    reasons: dict[str, str] = {}
    with torch.no_grad():
        outputs = attempts({n: partial(call, *inputs) for n, call in columns.items()}, reasons)
        forward = best_of_rounds({n: partial(columns[n], *inputs) for n in outputs}, device)
    rows = [row(shape, dtype, "forward", forward, rate, reasons)]
    grad = torch.randn_like(outputs["ours"])
    gradient = partial(torch.autograd.grad, inputs=inputs, grad_outputs=grad, retain_graph=True)
    graphs = attempts({n: partial(columns[n], *inputs) for n in outputs}, reasons)
    calls = {n: partial(gradient, out) for n, out in graphs.items()}
    working = attempts(calls, reasons)
    backward = best_of_rounds({n: calls[n] for n in working}, device)
    rows.append(row(shape, dtype, "backward", backward, rate, reasons))
    differences = {n: _largest_difference(out, outputs["ours"]) for n, out in outputs.items()}
    return [one | {"difference_to_ours": differences} for one in rows]


def attempts(calls: Mapping[str, Callable[[], Any]], reasons: dict[str, str]) -> dict[str, Any]:
    """What each call returns; the name of one that fails goes to `reasons` instead.

    Kernels of others refuse a dtype with RuntimeError, and arguments with TypeError. Ours may not:
    its errors are raised.
    """
    results = {}
    for name, call in calls.items():
        try:
            results[name] = call()
        except (RuntimeError, TypeError) as error:
            if name == "ours":
                raise
            reasons[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return results


def _largest_difference(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())


def row(
    shape: Shape,
    dtype: torch.dtype,
    direction: str,
    seconds: dict[str, float],
    rate: float,
    reasons: dict[str, str],
) -> dict[str, Any]:
    """What the table and the file hold of one shape, dtype and direction.

    `reasons` say why an operator has no seconds: it is named, with None, and so is the reason.
    """
    floor, ours = shape.floor_bytes(direction, dtype.itemsize) / rate, seconds["ours"]
    known: dict[str, float | None] = {**dict.fromkeys(reasons), **seconds}
    return {
        **asdict(shape),
        "dtype": str(dtype).removeprefix("torch."),
        "direction": direction,
        "seconds": {**known, "floor": floor},
        "times_faster": {n: taken and taken / ours for n, taken in known.items() if n != "ours"},
        "times_the_floor": ours / floor,
        "failures": dict(reasons),
    }
