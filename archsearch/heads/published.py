"""The detectors and segmenters of the paper's Tables 3, 4 and 5 on any backbone of four maps.

Sizes and training settings are those of the released configurations.
"""

from collections.abc import Sequence

from torch import nn

from archsearch.heads.backbone import map_channels
from archsearch.heads.detector import Detector
from archsearch.heads.dino_cost import PUBLISHED
from archsearch.heads.dino_cost import Sizes as DINOSizes
from archsearch.heads.dino_model import DINO
from archsearch.heads.fpn import FPN, WIDTH
from archsearch.heads.mask2former_cost import H, Sizes
from archsearch.heads.mask2former_model import Mask2Former
from archsearch.heads.region_heads import HIDDEN, BoxHead, MaskHead, conv_trunk, linear_trunk
from archsearch.heads.rpn import RPN, SCALE
from archsearch.heads.stage import NUM_SAMPLED, Stage
from archsearch.heads.upernet_cost import WIDTH as DECODER_WIDTH
from archsearch.heads.upernet_model import UperNet

CASCADE = (
    (0.5, 1.0, (10.0, 10.0, 5.0, 5.0)),
    (0.6, 0.5, (20.0, 20.0, 10.0, 10.0)),
    (0.7, 0.25, (30.0, 30.0, 15.0, 15.0)),
)
"""IoU of a positive, weight of the losses and factors of the deltas of each stage."""

CASCADE_BETA = 1 / 9
"""Where the loss of a cascade's proposals changes from squared to absolute."""


def mask_rcnn(
    backbone: nn.Module,
    num_classes: int = 80,
    *,
    channels: Sequence[int] | None = None,
    width: int = WIDTH,
    hidden: int = HIDDEN,
    anchor_scale: float = SCALE,
    num_sampled: int = NUM_SAMPLED,
) -> Detector:
    """Mask R-CNN with a feature pyramid (He et al., ICCV 2017).

    >>> detector = mask_rcnn(internimage.create_model("T", features_only=True))

    Args:
        backbone: maps images ``(N, 3, H, W)`` to four maps at strides 4, 8, 16 and 32.
        num_classes: classes of objects, without the background.
        channels: of the four maps; by default they are those of a small image's maps.
        width: channels of the pyramid and of the convolutions of all heads.
        hidden: width of the linear layers of the box head.
        anchor_scale: side of a square anchor in strides of its level.
        num_sampled: boxes per image that the stage learns from.

    Raises:
        ValueError: the backbone gives anything but four maps at these strides.
    """
    iou, weight, coder = CASCADE[0]
    head = BoxHead(linear_trunk(width, hidden), num_classes, hidden)
    masks = MaskHead(num_classes, width)
    stage = Stage(head, masks, iou=iou, coder=coder, weight=weight, num_sampled=num_sampled)
    fpn = FPN(channels or map_channels(backbone), width)
    return Detector(backbone, fpn, RPN(width, scale=anchor_scale), [stage])


def cascade_mask_rcnn(
    backbone: nn.Module,
    num_classes: int = 80,
    *,
    channels: Sequence[int] | None = None,
    width: int = WIDTH,
    hidden: int = HIDDEN,
    anchor_scale: float = SCALE,
    num_sampled: int = NUM_SAMPLED,
) -> Detector:
    """Cascade Mask R-CNN (Cai and Vasconcelos, TPAMI 2019) with convolutional box heads.

    Arguments and errors as of `mask_rcnn`.
    """
    stages = [
        Stage(
            BoxHead(conv_trunk(width, hidden), num_classes, hidden),
            MaskHead(num_classes, width),
            iou=iou,
            coder=coder,
            weight=weight,
            num_sampled=num_sampled,
            generalized=True,
        )
        for iou, weight, coder in CASCADE
    ]
    fpn = FPN(channels or map_channels(backbone), width)
    return Detector(backbone, fpn, RPN(width, scale=anchor_scale, beta=CASCADE_BETA), stages)


def upernet(
    backbone: nn.Module,
    num_classes: int = 150,
    *,
    channels: Sequence[int] | None = None,
    width: int = DECODER_WIDTH,
) -> UperNet:
    """UperNet (Xiao et al., ECCV 2018) with an auxiliary head on stage 3.

    >>> segmenter = upernet(internimage.create_model("T", features_only=True))

    Args:
        backbone: maps images ``(N, 3, H, W)`` to four maps at strides 4, 8, 16 and 32.
        num_classes: classes of pixels, from 2 to 255.
        channels: of the four maps; by default they are those of a small image's maps.
        width: channels of every map in the decoder.

    Raises:
        ValueError: the backbone gives anything but four maps at these strides, or the number of
            classes is out of range.
    """
    return UperNet(backbone, channels or map_channels(backbone), num_classes, width)


def mask2former(
    backbone: nn.Module,
    num_classes: int = 150,
    *,
    channels: Sequence[int] | None = None,
    sizes: Sizes = H,
) -> Mask2Former:
    """Mask2Former (Cheng et al., CVPR 2022), from the layers of the library transformers.

    >>> segmenter = mask2former(internimage.create_model("H", features_only=True))

    Args:
        backbone: maps images ``(N, 3, H, W)`` to four maps at strides 4, 8, 16 and 32.
        num_classes: classes of pixels, from 2 to 255.
        channels: of the four maps; by default they are those of a small image's maps.
        sizes: widths and numbers of layers (`archsearch.heads.mask2former_cost.Sizes`).

    Raises:
        MissingTransformersError: transformers is not installed.
        ValueError: the backbone gives anything but four maps at these strides, or the number of
            classes or a width is out of range.
    """
    return Mask2Former(backbone, channels or map_channels(backbone), num_classes, sizes)


def dino(
    backbone: nn.Module,
    num_classes: int = 80,
    *,
    channels: Sequence[int] | None = None,
    sizes: DINOSizes = PUBLISHED,
) -> DINO:
    """DINO (Zhang et al., ICLR 2023), from the layers of the library transformers; no masks.

    >>> one, other = (internimage.create_model("H", features_only=True) for _ in range(2))
    >>> detector = dino(Composite(one, other))

    Args:
        backbone: maps images ``(N, 3, H, W)`` to four maps at strides 4, 8, 16 and 32.
        num_classes: classes of objects.
        channels: of the four maps; by default they are those of a small image's maps.
        sizes: widths and numbers of layers (`archsearch.heads.dino_cost.Sizes`).

    Raises:
        MissingTransformersError: transformers is not installed.
        ValueError: the backbone gives anything but four maps at these strides.
    """
    return DINO(backbone, channels or map_channels(backbone), num_classes, sizes)
