"""Networks with a head, as they are built for counting (`archsearch.heads.cost`)."""

from collections.abc import Callable, Mapping
from typing import cast

from torch import Tensor, nn

from archsearch.heads.composite import Composite
from archsearch.heads.detector import Detector
from archsearch.heads.published import cascade_mask_rcnn, dino, mask2former, mask_rcnn, upernet
from archsearch.heads.region_heads import BOX_SIDE, MASK_SIDE
from archsearch.heads.stage import Stage
from archsearch.heads.two_stage_cost import NUM_DETECTIONS, NUM_PROPOSALS


class FixedBoxes(nn.Module):
    """A detector with the numbers of boxes that costs are counted with.

    How many boxes a detector passes on depends on the image, and the tensors of the meta device
    have no values. Here every part is called once: each stage on all proposals and all detections.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> None:
        """Backbone, pyramid and proposals of the images, then the heads on empty maps of boxes."""
        levels = self.detector.fpn(self.detector.backbone(images))
        self.detector.rpn(levels)
        width = levels[0].shape[1]
        for module in self.detector.stages:
            stage = cast(Stage, module)
            stage.box_head(images.new_zeros(NUM_PROPOSALS, width, BOX_SIDE, BOX_SIDE))
            stage.mask_head(images.new_zeros(NUM_DETECTIONS, width, MASK_SIDE, MASK_SIDE))


BUILDERS: Mapping[str, Callable[[nn.Module, int], nn.Module]] = {
    "mask-rcnn": mask_rcnn,
    "cascade-mask-rcnn": cascade_mask_rcnn,
    "dino": dino,
    "upernet": upernet,
    "mask2former": mask2former,
}
"""The heads by name, on a backbone and for a number of classes."""


def build(head: str, *backbones: nn.Module, num_classes: int) -> nn.Module:
    """The head of that name, one of `BUILDERS`, on a backbone or on two as one, as `countable`."""
    backbone = backbones[0] if len(backbones) == 1 else Composite(*backbones)
    return countable(BUILDERS[head](backbone, num_classes))


def countable(network: nn.Module) -> nn.Module:
    """The network as it can be counted: a detector with fixed numbers of boxes."""
    return FixedBoxes(network) if isinstance(network, Detector) else network
