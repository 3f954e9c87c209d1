"""DINO (Zhang et al., ICLR 2023): detection by queries, from the layers of Deformable DETR.

Encoder and decoder layers are those of the library transformers. The queries' boxes are those of
the likeliest positions, their contents are learned (mixed query selection). In training, queries
that start from objects with noise are added (`archsearch.heads.denoising`).

Losses are means over the objects of one image. As in the rest of this package, nothing in the loss
of an image depends on the others; the released code has as many groups of denoising queries for
all images as fit the image of most objects.

Shapes: N images, T positions of all levels, Q queries, C channels, K classes.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from archsearch.heads.boxes import Size, clipped, is_empty
from archsearch.heads.composite import Composite
from archsearch.heads.denoising import MATCHED, PADDING, Noisy, attention_mask, noisy, padded
from archsearch.heads.detector import check_labels, checked_sizes
from archsearch.heads.dino_cost import LEVELS, PUBLISHED, Sizes
from archsearch.heads.dino_decoder import Decoder, Output, init_layers
from archsearch.heads.dino_encoder import Encoder, Memory, Neck
from archsearch.heads.from_transformers import modeling
from archsearch.heads.instances import Detections, Instances
from archsearch.heads.layer_cost import NUM_POINTS
from archsearch.heads.losses import Losses
from archsearch.heads.matching import Target
from archsearch.heads.query_boxes import corners, in_parts, token_boxes
from archsearch.heads.set_losses import Objects, Prediction, set_losses

NUM_DETECTIONS = 300
"""Largest number of detections of an image."""


class DINO(nn.Module):
    """A detector without masks: a backbone, an encoder of its maps, and a decoder of queries.

    Args:
        backbone: gives four maps (`archsearch.heads.backbone`); the losses of a `Composite` are
            those on the maps of both.
        channels: of the four maps.
        num_classes: K.
        sizes: widths and numbers of layers.

    Raises:
        MissingTransformersError: transformers is not installed.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        num_classes: int,
        sizes: Sizes = PUBLISHED,
    ) -> None:
        super().__init__()
        theirs, width = modeling("deformable_detr"), sizes.width
        config = _config(theirs, sizes)
        self.num_classes, self.backbone = num_classes, backbone
        self.neck = Neck(channels, width)
        self.encoder = Encoder(theirs, config, sizes)
        self.token_features = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.token_output = Output(width, num_classes)
        self.decoder = Decoder(theirs, config, num_classes, sizes)
        self.contents = nn.Embedding(sizes.queries, width)
        self.noisy_contents = nn.Embedding(num_classes, width)
        network = theirs.DeformableDetrPreTrainedModel(config)
        parts = (self.encoder, self.decoder.layers, self.decoder.positions, self.token_features)
        for part in parts:
            init_layers(part, network)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self,
        images: Tensor,
        targets: Sequence[Instances] | None = None,
        sizes: Sequence[Size] | None = None,
        originals: Sequence[Size] | None = None,
    ) -> Losses | list[Detections]:
        """`losses` with targets, else `predict`; what DistributedDataParallel calls."""
        if targets is None:
            return self.predict(images, sizes, originals)
        return self.losses(images, targets, sizes)

    @torch.no_grad()
    def predict(
        self,
        images: Tensor,
        sizes: Sequence[Size] | None = None,
        originals: Sequence[Size] | None = None,
    ) -> list[Detections]:
        """The objects of each image, at most 300, by falling score; call ``eval()`` first.

        Arguments and errors as of `archsearch.heads.detector.Detector.predict`; no masks.
        """
        found = self.likeliest(images, sizes, originals)
        return [one[~is_empty(one.boxes)] for one in found]

    def for_export(self) -> nn.Module:
        """The network that ONNX files are written of: one image, outputs of fixed numbers."""
        return FixedDINO(self)

    def likeliest(
        self,
        images: Tensor,
        sizes: Sequence[Size] | None = None,
        originals: Sequence[Size] | None = None,
    ) -> list[Detections]:
        """As `predict`, with empty boxes: every image has the same number."""
        sizes = checked_sizes(images, sizes)
        originals = sizes if originals is None else checked_sizes(images, originals)
        memory = self.encode(self.backbone(images), sizes, _sides(images))
        _, boxes = self.proposed(memory)
        last = self.decoder(memory, boxes, self._contents(boxes))[-1]
        parts = zip(last.logits, last.boxes, originals, strict=True)
        return [_likeliest(*part) for part in parts]

    def losses(
        self,
        images: Tensor,
        targets: Sequence[Instances],
        sizes: Sequence[Size] | None = None,
    ) -> Losses:
        """The losses by name of all layers, of the positions and of denoising.

        Noise is drawn from torch's global generator. Every parameter receives a gradient, also from
        images without objects. Arguments and errors as of `Detector.losses`; masks are not used.
        """
        sizes = checked_sizes(images, sizes)
        check_labels(targets, self.num_classes, len(images))
        objects = [_objects(*pair) for pair in zip(targets, sizes, strict=True)]
        if not isinstance(self.backbone, Composite):
            return self._losses(self.encode(self.backbone(images), sizes, _sides(images)), objects)
        losses: Losses = {}
        for name, maps in zip(("first", "second"), self.backbone.both(images), strict=True):
            of_one = self._losses(self.encode(maps, sizes, _sides(images)), objects)
            losses |= {f"{name}_{key}": loss for key, loss in of_one.items()}
        return losses

    def encode(self, maps: Sequence[Tensor], sizes: Sequence[Size], padded: Size) -> Memory:
        """The positions of all levels, from the maps of images of these sizes without padding."""
        return cast(Memory, self.encoder(self.neck(maps), sizes, padded))

    def proposed(self, memory: Memory) -> tuple[Prediction, Tensor]:
        """The predictions ``(N, Q)`` of the likeliest positions, and their boxes for the queries.

        Q is at most the number of positions. No gradient flows into the boxes for the queries.
        """
        anchors, is_inside = token_boxes(memory.valid, memory.shapes)
        features = self.token_features(memory.tokens.masked_fill(~is_inside[..., None], 0.0))
        found = cast(Prediction, self.token_output(features, anchors))
        scores = found.logits.amax(-1).masked_fill(~is_inside, -math.inf)
        num = min(self.contents.num_embeddings, scores.shape[1])
        index = scores.topk(num, 1).indices[..., None]
        best = Prediction(*(torch.take_along_dim(v, index, 1) for v in vars(found).values()))
        return best, best.boxes.detach()

    def _contents(self, boxes: Tensor) -> Tensor:
        """``(N, Q, C)``, learned, for queries with these boxes."""
        return self.contents.weight[: boxes.shape[1]].expand(len(boxes), -1, -1)

    def _losses(self, memory: Memory, objects: Sequence[Objects]) -> Losses:
        proposals, boxes = self.proposed(memory)
        noise = [noisy(one.labels, one.boxes, self.num_classes) for one in objects]
        num = max(len(one.labels) for one in noise)
        groups = padded([one.group for one in noise], PADDING)
        contents = self.noisy_contents(padded([one.labels for one in noise], 0))
        mask = attention_mask(torch.cat((groups, groups.new_full(boxes.shape[:2], MATCHED)), 1))
        predictions = self.decoder(
            memory,
            torch.cat((padded([one.boxes for one in noise], 0.5), boxes), 1),
            torch.cat((contents, self._contents(boxes)), 1),
            mask,
        )
        losses = _named("proposals", set_losses(proposals, objects))
        for i, prediction in enumerate(predictions, 1):
            recovered, found = _split(prediction, num)
            losses |= _named(f"layer_{i}", set_losses(found, objects))
            pairs = [_recovering(one) for one in noise]
            of_noise = set_losses(recovered, objects, pairs, groups != PADDING)
            losses |= _named(f"denoising_{i}", of_noise)
        return losses


def _config(theirs: Any, sizes: Sizes) -> Any:
    return theirs.DeformableDetrConfig(
        use_timm_backbone=False,
        d_model=sizes.width,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_ffn_dim=sizes.hidden,
        decoder_ffn_dim=sizes.hidden,
        num_feature_levels=LEVELS,
        encoder_n_points=NUM_POINTS,
        decoder_n_points=NUM_POINTS,
        dropout=0.0,
        two_stage=True,
        with_box_refine=True,
        disable_custom_kernels=True,
        attn_implementation="sdpa",
    )


class FixedDINO(nn.Module):
    """The detections of `DINO.predict` for one image; an empty box has a score of zero.

    ``forward`` takes ``(1, 3, H, W)`` and returns ``boxes`` ``(M, 4)`` in its pixels, ``scores``
    ``(M,)`` and ``labels`` ``(M,)``.
    """

    onnx_outputs: ClassVar[tuple[str, ...]] = ("boxes", "scores", "labels")

    def __init__(self, detector: DINO) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (found,) = self.detector.likeliest(images)
        return found.boxes, found.scores * ~is_empty(found.boxes), found.labels


def _sides(images: Tensor) -> Size:
    return cast(Size, tuple(images.shape[2:]))


def _objects(target: Instances, size: Size) -> Objects:
    """The objects of an image as parts of its sides, without crowds."""
    objects = Target.of(target).objects
    return Objects(objects.labels, in_parts(objects.boxes, size))


def _recovering(noise: Noisy) -> tuple[Tensor, Tensor]:
    """The queries that recover an object, and the objects."""
    rows = noise.positive.nonzero()[:, 0]
    return rows, noise.index[rows]


def _split(prediction: Prediction, num: int) -> tuple[Prediction, Prediction]:
    """The predictions of the first ``num`` queries, and of the others."""
    both = zip(
        *(values.tensor_split([num], 1) for values in vars(prediction).values()), strict=True
    )
    first, others = (Prediction(*values) for values in both)
    return first, others


def _named(prefix: str, losses: Losses) -> Losses:
    return {f"{prefix}_{name}": loss for name, loss in losses.items()}


def _likeliest(classes: Tensor, boxes: Tensor, size: Size) -> Detections:
    """The likeliest pairs of query and class of an image, in pixels of ``size``."""
    scores, index = classes.sigmoid().flatten().topk(min(NUM_DETECTIONS, classes.numel()))
    height, width = size
    scale = boxes.new_tensor((width, height, width, height))
    found = clipped(corners(boxes[index // classes.shape[1]]) * scale, size)
    return Detections(found, scores, index % classes.shape[1], None)
