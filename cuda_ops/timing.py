"""What the benchmark times, and how: shapes, operators, clocks, and the memory floor."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops.geometry import ConvArgs
from cuda_ops.ops import dcnv3
from cuda_ops.reference import dcnv3_torch

Operator = Callable[[Tensor, Tensor, Tensor], Tensor]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 31}
ROUNDS = {"cpu": 7, "cuda": 30}
SLEEP_CLOCKS = 2_000_000  # GPU clocks, about a millisecond


@dataclass(frozen=True)
class Shape:
    """The operator's shape at one stage: kernel 3, stride 1, padding 1, 16 channels a group."""

    name: str
    num_images: int
    height: int
    width: int
    groups: int

    def tensors(self, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """Random x, offsets with a standard deviation of one pixel, and logits."""
        pixels = (self.num_images, self.height, self.width)
        channels = (16 * self.groups, 18 * self.groups, 9 * self.groups)
        x, offset, mask = (torch.randn(*pixels, c, device=device).to(dtype) for c in channels)
        return x, offset, mask

    def floor_bytes(self, direction: str, element_size: int) -> int:
        """Bytes to move: 59 elements per pixel and group forward, 16 + 27 in and 16 out.

        Backward it is 102 elements.
        """
        pairs = self.num_images * self.height * self.width * self.groups
        return pairs * (59 if direction == "forward" else 102) * element_size


# Per stage: height and width of the map, and groups. T and B have C' = 16 at every stage.
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
    """The stage shapes by name: t224 is T at 224x224, b800 B at 800x1333, t32 T at 32x32."""
    return [
        Shape(f"{name} stage {i}", batch or BATCH[device][name], *stage)
        for name in names
        for i, stage in enumerate(STAGES[name], start=1)
    ]


def grid_sample_dcnv3(x: Tensor, offset: Tensor, mask: Tensor, args: ConvArgs) -> Tensor:
    """The operator as it is usually written without a custom kernel (same size, stride 1)."""
    n, height, width, channels = x.shape
    groups, points = args.groups, args.num_points
    images = x.reshape(n, height, width, groups, -1).permute(0, 3, 4, 1, 2).flatten(0, 1)
    tap = torch.tensor(args.taps(), device=x.device, dtype=x.dtype) - args.half_extent
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
    """The operators to time, by column of the table."""
    args = ConvArgs(shape.groups, softmax=True)
    return {
        "torch": lambda x, offset, mask: dcnv3_torch(x, offset, mask, args),
        "grid_sample": lambda x, offset, mask: grid_sample_dcnv3(x, offset, mask, args),
        "ours": lambda x, offset, mask: dcnv3(
            x, offset, mask, groups=shape.groups, softmax=True, backend=device
        ),
    }


def seconds_cpu(call: Callable[[], object]) -> float:
    """Seconds of one call; with one thread processor time, so other processes do not count."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    call()
    return clock() - started


def seconds_cuda(call: Callable[[], object]) -> float:
    """Seconds of one call on the GPU alone, if the host queues it within about a millisecond.

    Clearing a large buffer first empties the GPU's cache. Then the GPU sleeps for about a
    millisecond while the host queues the launches. A call of hundreds of launches, such as the
    eager reference, takes the host longer than that: for such a call we measure the host's time.
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
    """Least seconds of each call; the calls take turns, and the first turn is not timed."""
    clock = seconds_cuda if device == "cuda" else seconds_cpu
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(ROUNDS[device] + 1):
        for name, call in calls.items():
            # A short call is repeated, so that one disturbance does not decide its time.
            for _ in range(1 if turn == 0 or best[name] > 3e-3 else 5):
                seconds = clock(call)
                if turn > 0:
                    best[name] = min(best[name], seconds)
    return best


def bandwidth(device: str) -> float:
    """Bytes per second of a large copy, counting both reads and writes."""
    source = torch.empty(COPY_BYTES[device], dtype=torch.int8, device=device).fill_(1)
    target = torch.empty_like(source).fill_(0)
    best = best_of_rounds({"copy": lambda: target.copy_(source)}, device)["copy"]
    return 2 * source.numel() / best


def measure(
    shape: Shape, dtype: torch.dtype, device: str, rate: float, baselines: dict[str, Any]
) -> list[dict[str, Any]]:
    """One row for forward and one for backward; `baselines` make operators of a group count.

    A failing operator other than ours has None for its seconds, and its reason in the row.
    """
    inputs = [tensor.requires_grad_() for tensor in shape.tensors(dtype, device)]
    columns = operators(shape, device) | {n: make(shape.groups) for n, make in baselines.items()}
    failures: dict[str, str] = {}
    with torch.no_grad():
        outputs = run_all({n: partial(call, *inputs) for n, call in columns.items()}, failures)
        forward = best_of_rounds({n: partial(columns[n], *inputs) for n in outputs}, device)
    rows = [row(shape, dtype, "forward", forward, rate, failures)]
    grad = torch.randn_like(outputs["ours"])
    gradient = partial(torch.autograd.grad, inputs=inputs, grad_outputs=grad, retain_graph=True)
    graphs = run_all({n: partial(columns[n], *inputs) for n in outputs}, failures)
    calls = {n: partial(gradient, out) for n, out in graphs.items()}
    gradients = run_all(calls, failures)
    backward = best_of_rounds({n: calls[n] for n in gradients}, device)
    rows.append(row(shape, dtype, "backward", backward, rate, failures))
    differences = {n: _largest_difference(out, outputs["ours"]) for n, out in outputs.items()}
    return [one | {"difference_to_ours": differences} for one in rows]


def run_all(calls: Mapping[str, Callable[[], Any]], failures: dict[str, str]) -> dict[str, Any]:
    """The result of each call that succeeds; adds the reason of each that fails to `failures`.

    Other kernels refuse a dtype with RuntimeError and arguments with TypeError. Ours must not fail:
    its errors are raised.
    """
    results = {}
    for name, call in calls.items():
        try:
            results[name] = call()
        except (RuntimeError, TypeError) as error:
            if name == "ours":
                raise
            failures[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return results


def _largest_difference(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())


def row(
    shape: Shape,
    dtype: torch.dtype,
    direction: str,
    seconds: dict[str, float],
    rate: float,
    failures: dict[str, str],
) -> dict[str, Any]:
    """The table's and the file's values for one shape, dtype and direction.

    An operator in `failures` has None for its seconds.
    """
    floor, ours = shape.floor_bytes(direction, dtype.itemsize) / rate, seconds["ours"]
    columns: dict[str, float | None] = {**dict.fromkeys(failures), **seconds}
    return {
        **asdict(shape),
        "dtype": str(dtype).removeprefix("torch."),
        "direction": direction,
        "seconds": {**columns, "floor": floor},
        "times_faster": {n: s and s / ours for n, s in columns.items() if n != "ours"},
        "times_the_floor": ours / floor,
        "failures": dict(failures),
    }
