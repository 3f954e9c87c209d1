"""Which points does each group of each stage sample for one query pixel?"""

from typing import TYPE_CHECKING

from archsearch.study import About

if TYPE_CHECKING:
    from torch import Tensor

    from archsearch.probes.photos import SamplingLocations
    from internimage.dcnv3 import DCNv3
    from internimage.model import InternImage

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Section 4.4 (Fig. 5)",
    command="archsearch sampling-locations RUN:best",
    small="one photograph: seconds on a CPU",
    full="the same, with the released weights",
)


def sampling_locations(
    model: "InternImage", image: "Tensor", at: tuple[float, float], block: int = -1
) -> "tuple[SamplingLocations, ...]":
    """Return the sampling points of one block of every stage, for the position nearest to ``at``.

    Args:
        image: ``(1, 3, S, S)``, normalized.
        at: (x, y) as fractions of the image.
        block: which block of a stage; negative counts from the end, so -1 is the last.

    Raises:
        ValueError: if a stage has no such block, or the operator does not sample.
    """
    import torch

    if model.config.operator == "depthwise":
        raise ValueError(
            "the network has no sampling points: its operator is depthwise, a plain convolution"
        )
    depths = model.config.depths
    if not all(-depth <= block < depth for depth in depths):
        raise ValueError(f"block {block} is not in every stage: the stages have {depths} blocks")
    layers = [stage.blocks[block].dcn for stage in model.levels]  # type: ignore[union-attr, index]
    inputs: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, x: inputs.append(x[0])) for layer in layers]
    try:
        with torch.no_grad():
            model.forward_features(image)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(
        _locations(layer, x, stage, block % depths[stage], at, image.shape[-1])
        for stage, (layer, x) in enumerate(zip(layers, inputs, strict=True))
    )


def _locations(
    layer: "DCNv3", x: "Tensor", stage: int, block: int, at: tuple[float, float], side: int
) -> "SamplingLocations":
    """Return the points of one layer; position ``c`` of its map is pixel ``stride * c``.

    This also holds for fractions of a position.
    """
    from archsearch.probes.photos import SamplingLocations, map_position
    from internimage.dcnv3 import sampling_points

    stride = 4 * 2**stage
    column, row = map_position(at, side, x.shape[2], stride)
    points, modulation = sampling_points(layer, x)
    return SamplingLocations(
        stage=stage + 1,
        block=block + 1,
        center=(float(stride * column), float(stride * row)),
        points=stride * points[0, row, column].double().numpy(),
        modulation=modulation[0, row, column].double().numpy(),
    )
