"""Closed-form cost of detectors and segmenters on any backbone of four maps, without torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from archsearch.core.cost import Cost, FeatureMaps, Tally, image_size
from archsearch.core.family import Family
from archsearch.heads.dino_cost import composite, dino
from archsearch.heads.mask2former_cost import mask2former
from archsearch.heads.two_stage_cost import cascade, mask_rcnn
from archsearch.heads.upernet_cost import upernet

Convention = Literal["macs", "mmcv"]
"""`archsearch.core.cost` describes both."""


@dataclass(frozen=True)
class Head:
    """The cost of a head by the maps it receives, its classes and widths; the usual classes.

    ``is_own`` says whether the layers are this package's; those of the library transformers are not
    counted operator by operator.
    """

    cost: Callable[..., Tally]
    num_classes: int
    is_own: bool = True


COCO, ADE20K = 80, 150

HEADS: Mapping[str, Head] = {
    "mask-rcnn": Head(mask_rcnn, COCO),
    "cascade-mask-rcnn": Head(cascade, COCO),
    "dino": Head(dino, COCO, is_own=False),
    "upernet": Head(upernet, ADE20K),
    "mask2former": Head(mask2former, ADE20K, is_own=False),
}
"""The heads of Tables 3, 4 and 5 by name."""


def head_name(text: str) -> str:
    """The name of a head in `HEADS`; ``cascade`` is short for Cascade Mask R-CNN.

    Raises:
        ValueError: no head has that name.
    """
    name = "cascade-mask-rcnn" if text == "cascade" else text
    if name not in HEADS:
        raise ValueError(f"wanted a head of {', '.join(HEADS)}, got {text!r}")
    return name


def count(
    maps: FeatureMaps,
    head: str,
    num_classes: int | None = None,
    *,
    two_backbones: bool = False,
    **widths: Any,
) -> Tally:
    """The cost of a backbone with a head; by default with the classes of COCO or ADE20K.

    With ``two_backbones`` the head is on a composite of two (`dino_cost.composite`). Mask R-CNN and
    Cascade Mask R-CNN have ``width`` and ``hidden``, UperNet has ``width``, Mask2Former ``sizes``,
    as the functions that build them.

    Raises:
        ValueError: no head has that name.
    """
    chosen = HEADS[head_name(head)]
    maps = composite(maps) if two_backbones else maps
    return maps.cost + chosen.cost(maps, num_classes or chosen.num_classes, **widths)


@dataclass(frozen=True)
class HeadCost(Cost):
    """The cost of a network with a head; ``mmcv`` is the count in the convention of that name."""

    mmcv: int
    head: str
    num_classes: int


def head_cost(
    network: Family,
    head: str,
    height: int,
    width: int,
    num_classes: int | None = None,
    *,
    two_backbones: bool = False,
) -> HeadCost:
    """The cost of `count` for a network and an image.

    Raises:
        ValueError: as `count`; or the network gives no four maps.
    """
    maps, head = network.feature_maps(height, width), head_name(head)
    total = count(maps, head, num_classes, two_backbones=two_backbones)
    return HeadCost(
        total.params,
        total.macs,
        total.activations,
        image_size(height, width),
        mmcv=total.mmcv,
        head=head,
        num_classes=num_classes or HEADS[head].num_classes,
    )
