"""Where does each group of each stage look for one place of the image?"""

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
    """Positions and modulation of one block of every stage, for the place nearest to ``at``.

    Args:
        image: ``(1, 3, S, S)``, normalised.
        at: (x, y) as shares of the image.
        block: which block of a stage; negative from its end, so -1 is the last.

    Raises:
        ValueError: a stage has no such block.
    """
    import torch

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
    """A map's pixel ``c`` is centred on the image's ``stride * c``, and so between them."""
    from archsearch.probes.photos import SamplingLocations, place
    from internimage.dcnv3 import sampling_points

    stride = 4 * 2**stage
    column, row = place(at, side, x.shape[2], stride)
    points, modulation = sampling_points(layer, x)
    return SamplingLocations(
        stage=stage + 1,
        block=block + 1,
        center=(float(stride * column), float(stride * row)),
        points=stride * points[0, row, column].double().numpy(),
        modulation=modulation[0, row, column].double().numpy(),
    )
