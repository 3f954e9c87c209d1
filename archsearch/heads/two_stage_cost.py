"""Closed-form cost of Mask R-CNN and Cascade Mask R-CNN, without building them and without torch.

Each function is named after the module of `archsearch.heads` whose cost it returns. The numbers of
boxes, which depend on the image, are the largest: 1000 proposals and 100 detections. RoIAlign and
suppression are not counted.
"""

from archsearch.core.cost import FeatureMaps, Tally, conv, linear
from archsearch.heads.layer_cost import called_on, conv_unit, deconv, relu, repeated

WIDTH, HIDDEN = 256, 1024
NUM_PROPOSALS, NUM_DETECTIONS = 1000, 100
NUM_ANCHORS = 3
BOX_BINS, MASK_BINS = 7**2, 14**2
NUM_CONVS = 4
NUM_STAGES = 3


def mask_rcnn(maps: FeatureMaps, num_classes: int) -> Tally:
    """The cost of Mask R-CNN without its backbone."""
    box_head = linear_trunk() + box_outputs(num_classes)
    return fpn(maps) + rpn(maps) + repeated(box_head, NUM_PROPOSALS) + masks(num_classes)


def cascade(maps: FeatureMaps, num_classes: int) -> Tally:
    """The cost of Cascade Mask R-CNN without its backbone: three stages on all boxes."""
    box_head = conv_trunk() + box_outputs(num_classes)
    stage = repeated(box_head, NUM_PROPOSALS) + masks(num_classes)
    return fpn(maps) + rpn(maps) + stage * NUM_STAGES


def fpn(maps: FeatureMaps) -> Tally:
    """The cost of a 1x1 and a 3x3 convolution for each map; the fifth level costs nothing."""
    levels = zip(maps.channels, maps.pixels, strict=True)
    convs = (conv(c, WIDTH, 1, area) + conv(WIDTH, WIDTH, 3, area) for c, area in levels)
    return sum(convs, Tally())


def rpn(maps: FeatureMaps) -> Tally:
    """The cost of a 3x3 convolution and of logits and deltas of the anchors, on five levels."""
    height, width = maps.sizes[-1]
    fifth = ((height + 1) // 2) * ((width + 1) // 2)
    levels = [
        conv(WIDTH, WIDTH, 3, area)
        + conv(WIDTH, NUM_ANCHORS, 1, area)
        + conv(WIDTH, 4 * NUM_ANCHORS, 1, area)
        for area in (*maps.pixels, fifth)
    ]
    return called_on(*levels)


def linear_trunk() -> Tally:
    """The cost of two linear layers with ReLU, for one box."""
    first = linear(WIDTH * BOX_BINS, HIDDEN) + relu(HIDDEN)
    return first + linear(HIDDEN, HIDDEN) + relu(HIDDEN)


def conv_trunk() -> Tally:
    """The cost of four convolutions with BatchNorm and a linear layer, for one box."""
    convs = conv_unit(WIDTH, WIDTH, 3, BOX_BINS) * NUM_CONVS
    return convs + linear(WIDTH * BOX_BINS, HIDDEN) + relu(HIDDEN)


def box_outputs(num_classes: int) -> Tally:
    """The cost of the logits, with one of the background, and of the deltas of every class."""
    return linear(HIDDEN, num_classes + 1) + linear(HIDDEN, 4 * num_classes)


def masks(num_classes: int) -> Tally:
    """The cost of the mask head on all detections."""
    return repeated(mask_head(num_classes), NUM_DETECTIONS)


def mask_head(num_classes: int) -> Tally:
    """The cost of four convolutions, a deconvolution and the masks, for one box."""
    fine = 4 * MASK_BINS
    convs = (conv(WIDTH, WIDTH, 3, MASK_BINS) + relu(WIDTH * MASK_BINS)) * NUM_CONVS
    finer = deconv(WIDTH, WIDTH, 2, MASK_BINS) + relu(WIDTH * fine)
    return convs + finer + conv(WIDTH, num_classes, 1, fine)
