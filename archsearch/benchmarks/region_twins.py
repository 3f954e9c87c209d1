"""RoIAlign and suppression beside torchvision's functions, on the same input in one run."""

import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from archsearch.heads.backbone import STRIDES
from archsearch.heads.boxes import Size
from archsearch.heads.fpn import WIDTH
from archsearch.heads.nms import chosen_nms, plain_nms
from archsearch.heads.region_heads import BOX_SIDE, MASK_SIDE
from archsearch.heads.roi_align import SAMPLES, roi_align
from archsearch.heads.rpn import NMS_IOU
from archsearch.heads.stage import NUM_SAMPLED, POSITIVE_FRACTION

CANDIDATES = 2000
"""Boxes of a level that suppression receives in training."""

Call = Callable[[], object]
Twins = dict[str, dict[str, float]]


def twins(size: Size, rounds: int, threads: int) -> Twins | None:
    """Seconds by call and by ``ours`` and ``torchvision``; None where torchvision does not import.

    RoIAlign is on the four finer levels of an image of this size. Suppression is ours in plain
    torch, and as it is chosen (`archsearch.heads.nms`).
    """
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError):  # RuntimeError: built for another torch
        return None
    clock = time.process_time if threads == 1 else time.perf_counter
    best: Twins = {name: dict.fromkeys(pair, float("inf")) for name, pair in _calls(size).items()}
    for round_ in range(rounds + 2):
        for name, pair in _calls(size).items():
            for whose, call in pair.items():
                start = clock()
                call()
                if round_ > 0:
                    best[name][whose] = min(best[name][whose], clock() - start)
    return best


def ratios(measured: Twins | None) -> Iterator[str]:
    """The lines of `twins` as text."""
    if measured is None:
        yield "  torchvision does not import: RoIAlign and suppression have no twin here"
        return
    for name, seconds in measured.items():
        ours, theirs = seconds["ours"], seconds["torchvision"]
        yield (
            f"  {name}: {ours * 1e3:.1f} ms, torchvision {theirs * 1e3:.1f} ms, "
            f"ratio {ours / theirs:.2f}"
        )


def _calls(size: Size) -> Mapping[str, Mapping[str, Call]]:
    """The calls by name, ours and torchvision's; a backward call has its forward done before."""
    source = torch.Generator().manual_seed(0)
    calls: dict[str, Mapping[str, Call]] = {}
    names = ("ours", "torchvision")
    for side, num in ((BOX_SIDE, NUM_SAMPLED), (MASK_SIDE, int(NUM_SAMPLED * POSITIVE_FRACTION))):
        boxes = _boxes(num, size, source)
        forward = {name: _pooling(name, _levels(size), boxes, side, size) for name in names}
        title = f"RoIAlign, {num} boxes of {side}x{side} bins"
        calls[f"{title}, forward"] = forward
        calls[f"{title}, backward"] = {name: _backward(call()) for name, call in forward.items()}
    boxes, scores = _boxes(CANDIDATES, size, source), torch.rand(CANDIDATES, generator=source)
    theirs = import_module("torchvision").ops.nms
    for name, ours in (("in plain torch", plain_nms), ("as chosen", chosen_nms())):
        calls[f"suppression of {CANDIDATES} boxes, {name}"] = {
            "ours": _suppression(ours, boxes, scores),
            "torchvision": _suppression(theirs, boxes, scores),
        }
    return calls


def _levels(size: Size) -> list[Tensor]:
    return [
        torch.ones(1, WIDTH, size[0] // stride, size[1] // stride)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
        for stride in STRIDES
    ]


def _boxes(num: int, size: Size, source: torch.Generator) -> Tensor:
    """Boxes of 16 pixels to the shorter side, evenly by the logarithm of their sides."""
    sides = 16 * (min(size) / 16) ** torch.rand(num, 2, generator=source)
    corners = torch.rand(num, 2, generator=source) * (torch.tensor(size[::-1]) - sides)
    return torch.cat((corners, corners + sides), 1)


def _pooling(
    whose: str, levels: list[Tensor], boxes: Tensor, side: int, size: Size
) -> Callable[[], Tensor]:
    if whose == "ours":
        return lambda: roi_align(levels, STRIDES, [boxes], side)
    names = [str(stride) for stride in STRIDES]
    pool: Any = import_module("torchvision").ops.MultiScaleRoIAlign(names, side, SAMPLES)
    maps = dict(zip(names, levels, strict=True))
    return lambda: pool(maps, [boxes], [size])


def _backward(pooled: Tensor) -> Call:
    return lambda: pooled.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]


def _suppression(function: Callable[..., Tensor], boxes: Tensor, scores: Tensor) -> Call:
    return lambda: function(boxes, scores, NMS_IOU)
