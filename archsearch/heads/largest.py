"""The largest pass of a detector: what its cost is counted on."""

from typing import cast

from torch import Tensor, nn

from archsearch.heads.detector import NUM_DETECTIONS, Detector
from archsearch.heads.region_heads import BOX_SIDE, MASK_SIDE
from archsearch.heads.rpn import NUM_PROPOSALS
from archsearch.heads.stage import Stage


class LargestPass(nn.Module):
    """A detector on one image with as many proposals and detections as there can be.

    Unlike a real pass it does not depend on the values of the image, so it runs on the meta device.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = cast(Detector, detector)

    def forward(self, image: Tensor) -> None:
        """Everything but RoIAlign and suppression, for an image ``(1, 3, H, W)``."""
        levels = self.detector.fpn(self.detector.backbone(image))
        self.detector.rpn(levels)
        width = levels[0].shape[1]
        for stage in cast(list[Stage], list(self.detector.stages)):
            stage.box_head(image.new_empty(NUM_PROPOSALS, width, BOX_SIDE, BOX_SIDE))
            stage.mask_head(image.new_empty(NUM_DETECTIONS, width, MASK_SIDE, MASK_SIDE))
