"""Small detectors and annotations for the tests."""

from collections.abc import Sequence

import torch
from torch import Tensor

from archsearch.heads.detector import Detector
from archsearch.heads.instances import Instances
from archsearch.heads.published import cascade_mask_rcnn, mask_rcnn
from internimage.config import ModelConfig
from internimage.model import InternImage

CONFIG = ModelConfig((8, 16, 32, 64), (1, 1, 1, 1), (1, 2, 4, 8))
BUILDERS = {"mask_rcnn": mask_rcnn, "cascade": cascade_mask_rcnn}


def small_detector(name: str = "mask_rcnn", num_classes: int = 3, seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    backbone = InternImage(CONFIG, features_only=True)
    return BUILDERS[name](
        backbone, num_classes, channels=CONFIG.channels, width=16, hidden=32, anchor_scale=4
    )


def rectangles(boxes: Sequence[Sequence[float]], height: int, width: int) -> Tensor:
    """``(M, H, W)`` masks of the pixels whose centers are in the boxes."""
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[round(y1) : round(y2), round(x1) : round(x2)] = True
    return masks


def annotated(
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    size: tuple[int, int] = (64, 96),
    crowd: Sequence[bool] | None = None,
) -> Instances:
    """Rectangular objects of an image."""
    return Instances(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        rectangles(boxes, *size),
        torch.tensor(crowd or [False] * len(labels), dtype=torch.bool),
    )
