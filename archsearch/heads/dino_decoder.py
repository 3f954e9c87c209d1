"""The decoder of DINO: queries attend to each other and to the encoder's positions.

Shapes: N images, Q queries, C channels, K classes.
"""

import math
from typing import Any, cast

from torch import Tensor, nn

from archsearch.heads.boxes import full_precision
from archsearch.heads.dino_cost import Sizes
from archsearch.heads.dino_encoder import Memory
from archsearch.heads.query_boxes import logits, sines
from archsearch.heads.set_losses import Prediction

PRIOR = 0.01
"""Probability of every class at the beginning."""


class Output(nn.Module):
    """The classes of features, and how far the box is from where it was."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.classes = nn.Linear(width, num_classes)
        first, second, last = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 4)
        self.box = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)
        nn.init.constant_(self.classes.bias, -math.log(1 / PRIOR - 1))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, features: Tensor, start: Tensor) -> Prediction:
        """The prediction of features ``(..., C)``, from the logits ``(..., 4)`` of a box."""
        return Prediction(full_precision(self.classes(features)), self.moved(features, start))

    def moved(self, features: Tensor, start: Tensor) -> Tensor:
        """The box alone."""
        return (full_precision(self.box(features)) + start).sigmoid()


class Decoder(nn.Module):
    """Layers of transformers, each with an output of its own.

    Args:
        theirs: the module of transformers with the layers.
        config: of the layers.
        num_classes: K.
        sizes: widths and numbers of layers.
    """

    def __init__(self, theirs: Any, config: Any, num_classes: int, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.layers = nn.ModuleList(
            theirs.DeformableDetrDecoderLayer(config) for _ in range(sizes.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.positions = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.outputs = nn.ModuleList(Output(width, num_classes) for _ in range(sizes.layers))

    def forward(
        self, memory: Memory, boxes: Tensor, contents: Tensor, mask: Tensor | None = None
    ) -> list[Prediction]:
        """What the queries predict after each layer.

        The box of a layer starts from that of the layer before, with its gradient; the layers
        themselves see boxes without a gradient (look forward twice).

        Args:
            memory: of the images.
            boxes: ``(N, Q, 4)`` at which the queries begin.
            contents: ``(N, Q, C)``.
            mask: ``(N, 1, Q, Q)`` bool, which queries each of them attends to; all by default.
        """
        predictions, refined = [], boxes
        ratios = memory.ratios.repeat(1, 1, 2)[:, None]
        given = {"encoder_attention_mask": memory.valid, "attention_mask": mask, **memory.levels()}
        for layer, module in zip(self.layers, self.outputs, strict=True):
            output = cast(Output, module)
            points = boxes[:, :, None] * ratios
            positions = self.positions(sines(points[:, :, 0], contents.shape[-1]))
            contents = layer(
                contents, positions, points, encoder_hidden_states=memory.tokens, **given
            )
            predictions.append(output(self.norm(contents), logits(refined)))
            refined = output.moved(contents, logits(boxes))
            boxes = refined.detach()
        return predictions


def init_layers(part: nn.Module, network: Any) -> None:
    """Uniform linear layers by Glorot and Bengio; deformable attention by transformers' rule."""
    for module in part.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for module in part.modules():
        if hasattr(module, "sampling_offsets"):
            network._init_weights(module)
