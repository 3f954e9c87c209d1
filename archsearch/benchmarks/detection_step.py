"""Time a training step of Mask R-CNN by part: ``python -m archsearch.benchmarks.detection_step``.

The step is forward, backward and AdamW on random images, each with `NUM_OBJECTS` rectangles. Among
the proposals are boxes near the objects, as a trained network proposes them, so that the mask head
has as many positives as in training. A part's seconds are its own, without those of parts inside
it. Where torchvision imports, RoIAlign and suppression are timed beside its functions on the same
input (`region_twins`). With one thread the clock is that of the processor, so that other processes
do not count.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import internimage
from archsearch.benchmarks.region_twins import ratios, twins
from archsearch.heads import mask_rcnn, stage
from archsearch.heads.boxes import Size, clipped
from archsearch.heads.detector import Detector
from archsearch.heads.instances import Instances
from archsearch.heads.losses import total
from archsearch.heads.rpn import NUM_PROPOSALS, RPN
from archsearch.heads.stage import Stage
from cuda_ops.bench import write_json
from cuda_ops.toolchain import cpu_model
from internimage import PRESETS

NUM_OBJECTS, NEAR_EACH = 10, 20
"""Objects per image, and proposals near each of them."""

PARTS = (
    "backbone", "pyramid", "RPN", "proposals", "RPN losses", "sampling", "RoIAlign", "box head",
    "mask head", "losses", "backward", "optimizer",
)  # fmt: skip


@dataclass
class Stopwatch:
    """The seconds of each part, without those of the parts that it calls."""

    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time until the end of the block for this part."""
        self._count()
        self._open.append(name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def _count(self) -> None:
        now = self.clock()
        if self._open:
            part = self._open[-1]
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time counts for this part."""

        @wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return counted


@contextmanager
def timed_parts(detector: Detector, watch: Stopwatch) -> Iterator[None]:
    """Count the time of the detector's parts in the block."""
    methods = (
        (detector.backbone, "forward", "backbone"),
        (detector.fpn, "forward", "pyramid"),
        (detector.rpn, "forward", "RPN"),
        (detector.rpn, "proposals", "proposals"),
        (detector.rpn, "losses", "RPN losses"),
        (Stage, "sample", "sampling"),
        (stage, "roi_align", "RoIAlign"),
        *((one.box_head, "forward", "box head") for one in detector.stages),
        *((one.mask_head, "forward", "mask head") for one in detector.stages),
    )
    with ExitStack() as patches:
        for owner, method, part in methods:
            timed = watch.timed(part, getattr(owner, method))
            patches.enter_context(patch.object(owner, method, timed))
        yield


def images_and_objects(batch: int, size: Size) -> tuple[Tensor, list[Instances]]:
    """Random images ``(batch, 3, H, W)`` with rectangles of a tenth to half of the shorter side."""
    source = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, *size, generator=source)
    return images, [_objects(size, source) for _ in range(batch)]


def _objects(size: Size, source: torch.Generator) -> Instances:
    height, width = size
    sides = (0.1 + 0.4 * torch.rand(NUM_OBJECTS, 2, generator=source)) * min(size)
    room = torch.tensor([width, height]) - sides
    corners = (torch.rand(NUM_OBJECTS, 2, generator=source) * room).floor()
    boxes = torch.cat((corners, (corners + sides).ceil()), 1)
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    x1, y1, x2, y2 = (edge[:, None, None] for edge in boxes.unbind(1))
    masks = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    labels = torch.randint(80, (NUM_OBJECTS,), generator=source)
    return Instances(boxes, labels, masks, torch.zeros(NUM_OBJECTS, dtype=torch.bool))


def with_near_boxes(targets: list[Instances], size: Size) -> Callable[..., list[Tensor]]:
    """The proposals of `RPN`, of which the first are near the objects."""
    source, proposals = torch.Generator().manual_seed(1), RPN.proposals

    def proposed(self: RPN, *args: Any) -> list[Tensor]:
        nears = [_near(target.boxes, size, source) for target in targets]
        pairs = zip(nears, proposals(self, *args), strict=True)
        return [torch.cat(pair)[:NUM_PROPOSALS] for pair in pairs]

    return proposed


def _near(boxes: Tensor, size: Size, source: torch.Generator) -> Tensor:
    boxes = boxes.repeat(NEAR_EACH, 1)
    sides = (boxes[:, 2:] - boxes[:, :2]).tile(2)
    return clipped(boxes + 0.1 * sides * torch.randn(boxes.shape, generator=source), size)


def step_seconds(model: str, batch: int, size: Size, rounds: int, threads: int) -> dict[str, float]:
    """The seconds of each of `PARTS` in the fastest step, after one that is not timed."""
    torch.manual_seed(0)
    detector = mask_rcnn(internimage.create_model(model, features_only=True)).train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-6)
    images, targets = images_and_objects(batch, size)
    steps = []
    with patch.object(RPN, "proposals", with_near_boxes(targets, size)):
        for _ in range(rounds + 1):
            watch = Stopwatch(time.process_time if threads == 1 else time.perf_counter)
            with timed_parts(detector, watch):
                _step(detector, optimizer, images, targets, watch)
            steps.append(watch.seconds)
    best = min(steps[1:], key=lambda seconds: sum(seconds.values()))
    return {part: best[part] for part in PARTS}


def _step(
    detector: Detector,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    targets: list[Instances],
    watch: Stopwatch,
) -> None:
    with watch.part("losses"):
        loss = total(detector.losses(images, targets))
    with watch.part("backward"):
        loss.backward()  # type: ignore[no-untyped-call]
    with watch.part("optimizer"):
        optimizer.step()
        optimizer.zero_grad()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The seconds of the step's parts and of the twins; None where torchvision does not import."""
    height, _, width = options.image_size.partition("x")
    size = int(height), int(width)
    torch.set_num_threads(options.threads)
    parts = step_seconds(options.model, options.batch, size, options.rounds, options.threads)
    return {
        "model": options.model,
        "batch": options.batch,
        "image_size": size,
        "threads": options.threads,
        "device": cpu_model(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "seconds": sum(parts.values()),
        "parts": parts,
        "twins": twins(size, options.rounds, options.threads),
    }


def lines(row: Mapping[str, Any]) -> Iterator[str]:
    """A measurement as text."""
    height, width = row["image_size"]
    yield (
        f"Mask R-CNN {row['model']}, {row['batch']} images of {height}x{width}, {row['threads']} "
        f"thread(s), {row['device']} ({row['vectors']}), torch {row['torch']}: "
        f"{row['seconds']:.2f} s per step"
    )
    for part, seconds in row["parts"].items():
        yield f"  {part:12} {seconds:8.3f} s {seconds / row['seconds']:6.1%}"
    yield from ratios(row["twins"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--model", choices=tuple(PRESETS), default="T", help="time this backbone")
    parser.add_argument("--batch", type=int, default=1, help="use this many images per step")
    parser.add_argument("--image-size", default="800x1333", help="use images of this HxW")
    parser.add_argument("--threads", type=int, default=1, help="compute with this many threads")
    parser.add_argument("--rounds", type=int, default=2, help="time this many steps")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--out", type=Path, help="also write the measurement to this file")
    options = parser.parse_args(arguments)
    row = measure(options)
    print(json.dumps(row) if options.json else "\n".join(lines(row)))
    if options.out:
        write_json(options.out, row)


if __name__ == "__main__":
    main()
