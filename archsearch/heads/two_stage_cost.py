"""Closed-form cost of Mask R-CNN and Cascade Mask R-CNN, without building them and without torch.

Each function is named after the module of `archsearch.heads` whose cost it returns. The numbers of
boxes, which depend on the image, are the largest: 1000 proposals and 100 detections. RoIAlign and
suppression are not counted.
"""

from archsearch.core.cost import FeatureMaps, Tally, conv, linear
from archsearch.heads.layer_cost import called_on, conv_unit, deconv, relu, repeated

WIDTH, HIDDEN = 256, 1024
"""Channels of every convolution, and width of the linear layers of a box head."""

NUM_PROPOSALS, NUM_DETECTIONS = 1000, 100
NUM_ANCHORS = 3
BOX_BINS, MASK_BINS = 7**2, 14**2
NUM_CONVS = 4
NUM_STAGES = 3


def mask_rcnn(
    maps: FeatureMaps, num_classes: int, width: int = WIDTH, hidden: int = HIDDEN
) -> Tally:
    """The cost of Mask R-CNN without its backbone."""
    box_head = linear_trunk(width, hidden) + box_outputs(hidden, num_classes)
    stage = repeated(box_head, NUM_PROPOSALS) + masks(width, num_classes)
    return fpn(maps, width) + rpn(maps, width) + stage


def cascade(maps: FeatureMaps, num_classes: int, width: int = WIDTH, hidden: int = HIDDEN) -> Tally:
    """The cost of Cascade Mask R-CNN without its backbone: three stages on all boxes."""
    box_head = conv_trunk(width, hidden) + box_outputs(hidden, num_classes)
    stage = repeated(box_head, NUM_PROPOSALS) + masks(width, num_classes)
    return fpn(maps, width) + rpn(maps, width) + stage * NUM_STAGES


def fpn(maps: FeatureMaps, width: int) -> Tally:
    """The cost of a 1x1 and a 3x3 convolution for each map; the fifth level costs nothing."""
    levels = zip(maps.channels, maps.pixels, strict=True)
    convs = (conv(c, width, 1, area) + conv(width, width, 3, area) for c, area in levels)
    return sum(convs, Tally())


def rpn(maps: FeatureMaps, width: int) -> Tally:
    """The cost of a 3x3 convolution and of logits and deltas of the anchors, on five levels."""
    rows, columns = maps.sizes[-1]
    fifth = ((rows + 1) // 2) * ((columns + 1) // 2)
    levels = [
        conv(width, width, 3, area)
        + conv(width, NUM_ANCHORS, 1, area)
        + conv(width, 4 * NUM_ANCHORS, 1, area)
        for area in (*maps.pixels, fifth)
    ]
    return called_on(*levels)


def linear_trunk(width: int, hidden: int) -> Tally:
    """The cost of two linear layers with ReLU, for one box."""
    first = linear(width * BOX_BINS, hidden) + relu(hidden)
    return first + linear(hidden, hidden) + relu(hidden)


def conv_trunk(width: int, hidden: int) -> Tally:
    """The cost of four convolutions with BatchNorm and a linear layer, for one box."""
    convs = conv_unit(width, width, 3, BOX_BINS) * NUM_CONVS
    return convs + linear(width * BOX_BINS, hidden) + relu(hidden)


def box_outputs(hidden: int, num_classes: int) -> Tally:
    """The cost of the logits, with one of the background, and of the deltas of every class."""
    return linear(hidden, num_classes + 1) + linear(hidden, 4 * num_classes)


def masks(width: int, num_classes: int) -> Tally:
    """The cost of the mask head on all detections."""
    return repeated(mask_head(width, num_classes), NUM_DETECTIONS)


def mask_head(width: int, num_classes: int) -> Tally:
    """The cost of four convolutions, a deconvolution and the masks, for one box."""
    fine = 4 * MASK_BINS
    convs = (conv(width, width, 3, MASK_BINS) + relu(width * MASK_BINS)) * NUM_CONVS
    finer = deconv(width, width, 2, MASK_BINS) + relu(width * fine)
    return convs + finer + conv(width, num_classes, 1, fine)
