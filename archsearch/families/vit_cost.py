"""Closed-form cost of a ViT, without building it and without torch.

The convention is that of `archsearch.core.cost`: multiply-adds of convolutions, linear layers and
attention. Each function is named after the module of `archsearch.families.vit_model` whose cost it
returns; tests compare both with fvcore to the integer.
"""

from archsearch.core.cost import Cost, Tally, conv, image_size, linear, norm


def count(
    width: int,
    depth: int,
    mlp_width: int,
    *,
    patch: int,
    grid: int,
    num_classes: int,
    image: tuple[int, int],
) -> Cost:
    """Parameters, multiply-adds and activations for one image of (height, width) pixels.

    Raises:
        ValueError: a side of the image is less than 1.
    """
    rows, columns = map_sides(*image, patch)
    patches = rows * columns
    total = patch_embed(width, patch, patches) + embeddings(width, grid)
    total += block(width, mlp_width, patches + 1) * depth
    total += norm(width) + linear(width, num_classes)
    return Cost(total.params, total.macs, total.activations, image_size(*image))


def map_sides(height: int, width: int, patch: int) -> tuple[int, int]:
    """Rows and columns of patches; `vit_model.PatchEmbed` fills up the last ones with zeros.

    Raises:
        ValueError: a side of the image is less than 1.
    """
    if min(height, width) < 1:
        raise ValueError(f"image size must be at least 1 pixel, got {height} x {width}")
    return -(-height // patch), -(-width // patch)


def patch_embed(width: int, patch: int, patches: int) -> Tally:
    """The cost of a convolution whose stride is its kernel, one output for each patch."""
    return conv(3, width, patch, patches)


def embeddings(width: int, grid: int) -> Tally:
    """The class token, and the positions of a square of patches and of the class token.

    Their resampling to an image of another size is not counted: it does not depend on the image,
    and an evaluated network could store the result.
    """
    return Tally(params=width + (grid**2 + 1) * width)


def block(width: int, mlp_width: int, tokens: int) -> Tally:
    """The cost of two LayerNorms, attention and MLP."""
    mlp = linear(width, mlp_width, tokens) + linear(mlp_width, width, tokens)
    return norm(width) * 2 + attention(width, tokens) + mlp


def attention(width: int, tokens: int) -> Tally:
    """The cost of self-attention, whatever the number of heads.

    Queries times keys and weights times values are ``tokens^2 width`` multiply-adds each. They
    are one operator, whose output is counted: fast kernels never store the weights.
    """
    products = Tally(macs=2 * tokens**2 * width, activations=tokens * width)
    return linear(width, 3 * width, tokens) + products + linear(width, width, tokens)
