"""Mask2Former (Cheng et al., CVPR 2022): segmentation by the masks and classes of queries.

Pixel decoder, query decoder and loss are those of the library transformers. The loss is that of one
image, summed over the images, so that a step over several processes, or in several parts, is that
of one: transformers takes the means over the masks and queries of all images of a batch.

Shapes: N images, H and W the sides of an image, h and w those of the first map, K classes, Q
queries.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from archsearch.heads.from_transformers import initialize, modeling
from archsearch.heads.mask2former_cost import H, Sizes
from archsearch.heads.upernet_model import IGNORED, label_problems, resized

Prediction = tuple[Tensor, Tensor]
"""Logits of the masks ``(N, Q, h, w)`` and of the classes ``(N, Q, K + 1)``; the last is that of
no object."""


class Mask2Former(nn.Module):
    """A segmenter: a backbone, a pixel decoder on its maps, and a decoder of queries.

    Args:
        backbone: gives four maps (`archsearch.heads.backbone`).
        channels: of the four maps.
        num_classes: K.
        sizes: widths and numbers of layers.

    Raises:
        MissingTransformersError: transformers is not installed.
        ValueError: K is not from 2 to 255.
    """

    def __init__(
        self, backbone: nn.Module, channels: Sequence[int], num_classes: int, sizes: Sizes = H
    ) -> None:
        super().__init__()
        if not 2 <= num_classes <= IGNORED:
            raise ValueError(f"num_classes must be from 2 to {IGNORED}, got {num_classes}")
        theirs = modeling("mask2former")
        config = _config(theirs, num_classes, sizes)
        self.num_classes, self.backbone = num_classes, backbone
        self.pixel_decoder = theirs.Mask2FormerPixelDecoder(config, tuple(channels))
        self.decoder = theirs.Mask2FormerTransformerModule(sizes.width, config)
        self.classifier = nn.Linear(sizes.width, num_classes + 1)
        self.weights = {
            "loss_cross_entropy": config.class_weight,
            "loss_mask": config.mask_weight,
            "loss_dice": config.dice_weight,
        }
        self.criterion = theirs.Mask2FormerLoss(config, self.weights)
        for part in (self.pixel_decoder, self.decoder, self.classifier):
            initialize(part, theirs.Mask2FormerPreTrainedModel(config))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def no_weight_decay(self) -> list[str]:
        """The embeddings, as in the released configuration."""
        queries = ("queries_embedder", "queries_features", "level_embed")
        return ["pixel_decoder.level_embed", *(f"decoder.{name}.weight" for name in queries)]

    def forward(
        self, images: Tensor, labels: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """`losses` with labels, else `predict`; what DistributedDataParallel calls."""
        return self.predict(images) if labels is None else self.losses(images, labels)

    def predictions(self, images: Tensor) -> list[Prediction]:
        """What the queries predict before the first layer of the decoder and after each layer."""
        pixels = self.pixel_decoder(self.backbone(images))
        decoded = self.decoder(pixels.multi_scale_features, pixels.mask_features)
        classes = (
            self.classifier(queries.transpose(0, 1)).float()
            for queries in decoded.intermediate_hidden_states
        )
        masks = (mask.float() for mask in decoded.masks_queries_logits)
        return list(zip(masks, classes, strict=True))

    def predict(self, images: Tensor) -> Tensor:
        """Logits ``(N, K, H, W)`` of images ``(N, 3, H, W)``; call ``eval()`` first.

        They are the logarithm of the sum over the queries of class probability times mask, so their
        softmax is the share of each class in that sum.
        """
        masks, classes = self.predictions(images)[-1]
        masks = resized(masks, images.shape[2:]).sigmoid()
        scores = torch.einsum("nqk,nqhw->nkhw", classes.softmax(-1)[..., :-1], masks)
        return scores.clamp(min=torch.finfo(scores.dtype).tiny).log()

    def losses(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The losses of all predictions, summed over the images, and the number of images.

        Points of the masks are drawn from torch's global generator. Every parameter receives a
        gradient, also from images without labeled pixels.

        Args:
            images: ``(N, 3, H, W)``.
            labels: ``(N, H, W)`` int64, from 0 to K - 1, or 255 for a pixel without a label, which
                is in no mask.

        Raises:
            ValueError: the labels have another shape or type.
        """
        if problems := label_problems(images, labels):
            raise ValueError("; ".join(problems))
        predictions = self.predictions(images)
        with torch.autocast(images.device.type, enabled=False):
            losses = [
                self._loss([(m[n : n + 1], c[n : n + 1]) for m, c in predictions], label_map)
                for n, label_map in enumerate(labels)
            ]
        return torch.stack(losses).sum(), labels.new_tensor(len(labels))

    def _loss(self, predictions: Sequence[Prediction], label_map: Tensor) -> Tensor:
        """The weighted loss of one image, over all predictions; the last is the first to draw."""
        classes, masks = class_masks(label_map)
        total = label_map.new_zeros((), dtype=torch.float32)
        for mask_logits, class_logits in (predictions[-1], *predictions[:-1]):
            losses = self.criterion(mask_logits, class_logits, [masks], [classes])
            total = total + sum(losses[name] * weight for name, weight in self.weights.items())
        return total


def class_masks(label_map: Tensor) -> tuple[Tensor, Tensor]:
    """The classes ``(M,)`` of an image, in order, and the mask ``(M, H, W)`` of each, as float."""
    classes = torch.unique(label_map)
    classes = classes[classes != IGNORED]
    return classes, (label_map == classes[:, None, None]).float()


def _config(theirs: Any, num_classes: int, sizes: Sizes) -> Any:
    return theirs.Mask2FormerConfig(
        feature_size=sizes.width,
        mask_feature_size=sizes.width,
        hidden_dim=sizes.width,
        num_attention_heads=sizes.heads,
        encoder_feedforward_dim=sizes.hidden,
        dim_feedforward=sizes.hidden,
        num_queries=sizes.queries,
        encoder_layers=sizes.pixel_layers,
        decoder_layers=sizes.layers + 1,  # they count the prediction before the first
        num_labels=num_classes,
    )
