"""The cost of the layers that heads have and backbones do not (`archsearch.core.cost`)."""

from itertools import pairwise

from archsearch.core.cost import Tally, conv, linear, norm

MACS_PER_SAMPLE = 5
"""Multiply-adds per sampled element: 4 of the interpolation and 1 of the weight."""

GROUPS = 32
"""Groups of the GroupNorms of the heads with queries. Each has two channels or more: a group of one
has no variance where a level has one position."""

NUM_POINTS = 4
"""Sampling points per level and head of multi-scale deformable attention."""


def check_width(head: str, width: int, heads: int) -> None:
    """Check that a head with queries of this width can be built.

    Raises:
        ValueError: the width is no multiple of twice `GROUPS` and of the attention heads.
    """
    if width < 1 or width % (2 * GROUPS) or width % heads:
        raise ValueError(
            f"the width of {head} must be a multiple of {2 * GROUPS} ({GROUPS} groups of the "
            f"norms) and of its attention heads ({heads}), got {width}"
        )


def repeated(part: Tally, times: int) -> Tally:
    """The cost of layers that are called ``times`` times and have their weights once."""
    return Tally(part.params, part.macs * times, part.activations * times, part.mmcv * times)


def called_on(part: Tally, *others: Tally) -> Tally:
    """The cost of layers on one map and, with the same weights, on others."""
    total = sum(others, part)
    return Tally(part.params, total.macs, total.activations, total.mmcv)


def relu(elements: int) -> Tally:
    """The cost of a ReLU module with this many outputs."""
    return Tally(mmcv=elements)


def pooling(elements: int) -> Tally:
    """The cost of a pooling module with this many inputs."""
    return Tally(mmcv=elements)


def deconv(c_in: int, c_out: int, kernel: int, pixels: int) -> Tally:
    """The cost of `torch.nn.ConvTranspose2d` on ``pixels`` positions, its stride the kernel."""
    weights, outputs = c_in * c_out * kernel**2, c_out * pixels * kernel**2
    return Tally(weights + c_out, weights * pixels, outputs, weights * pixels + outputs)


def feed_forward(width: int, hidden: int, pixels: int) -> Tally:
    """The cost of Linear, ReLU and Linear over ``pixels`` positions."""
    return linear(width, hidden, pixels) + relu(hidden * pixels) + linear(hidden, width, pixels)


def mlp(widths: tuple[int, ...], pixels: int) -> Tally:
    """The cost of linear layers of these widths, with ReLU modules between them."""
    layers = [linear(*pair, pixels) for pair in pairwise(widths)]
    return sum(layers, relu(sum(widths[1:-1]) * pixels))


def attention(width: int, queries: int, keys: int) -> Tally:
    """The cost of multi-head attention with its four projections.

    The convention ``mmcv`` sees one module whose layers it does not call.
    """
    projections = linear(width, width, queries) * 2 + linear(width, width, keys) * 2
    products = Tally(macs=2 * queries * keys * width, activations=queries * width)
    return (projections + products).as_function()


def deformable_attention(width: int, heads: int, levels: int, queries: int, tokens: int) -> Tally:
    """The cost of multi-scale deformable attention (Zhu et al., ICLR 2021).

    ``tokens`` are the pixels of all levels. The convention ``mmcv`` does not count the samples.
    """
    points = levels * NUM_POINTS
    samples = MACS_PER_SAMPLE * queries * points * width
    return (
        linear(width, width, tokens)
        + linear(width, heads * points * 2, queries)
        + linear(width, heads * points, queries)
        + Tally(macs=samples, activations=queries * width)
        + linear(width, width, queries)
    )


def conv_unit(c_in: int, c_out: int, kernel: int, pixels: int) -> Tally:
    """The cost of a convolution without bias, BatchNorm and ReLU."""
    return conv(c_in, c_out, kernel, pixels, bias=False) + norm(c_out) + relu(c_out * pixels)
