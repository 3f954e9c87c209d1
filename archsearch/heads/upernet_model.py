"""UperNet (Xiao et al., ECCV 2018): semantic segmentation on four maps.

The auxiliary head, its weight in the loss, the dropout and the initialization are those of the
released configurations.

Shapes: N images, H and W the sides of an image, h and w the sides of a map, K classes.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archsearch.heads.upernet_cost import AUXILIARY_STAGE, AUXILIARY_WIDTH, POOLED_SIDES, WIDTH

AUXILIARY_WEIGHT = 0.4
DROPOUT = 0.1
IGNORED = 255
"""The label of pixels that are in neither the loss nor a measurement."""


class ConvUnit(nn.Sequential):
    """A convolution without bias that keeps the sides of its map, BatchNorm and ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))


class PyramidPooling(nn.Module):
    """A map beside its means over grids of 1, 4, 9 and 36 cells, merged to ``width`` channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), ConvUnit(channels, width, 1))
            for side in POOLED_SIDES
        )
        self.bottleneck = ConvUnit(channels + len(POOLED_SIDES) * width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, h, w)`` to ``(N, width, h, w)``."""
        means = (resized(level(x), x.shape[2:]) for level in self.levels)
        return cast(Tensor, self.bottleneck(torch.cat([x, *means], 1)))


class Decoder(nn.Module):
    """Pyramid pooling of the last map, a top-down path to the first, and their fusion."""

    def __init__(self, channels: Sequence[int], num_classes: int, width: int = WIDTH) -> None:
        super().__init__()
        *finer, last = channels
        self.pooling = PyramidPooling(last, width)
        self.laterals = nn.ModuleList(ConvUnit(c, width, 1) for c in finer)
        self.outputs = nn.ModuleList(ConvUnit(width, width, 3) for _ in finer)
        self.fusion = ConvUnit(len(channels) * width, width, 3)
        self.classifier = classifier(width, num_classes)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits ``(N, K, h, w)`` at the sides of the first map."""
        merged = [self.pooling(maps[-1])]
        for lateral, x in zip(reversed(self.laterals), reversed(maps[:-1]), strict=True):
            merged.insert(0, lateral(x) + resized(merged[0], x.shape[2:]))
        outputs = [output(x) for output, x in zip(self.outputs, merged[:-1], strict=True)]
        size = maps[0].shape[2:]
        fused = self.fusion(torch.cat([resized(x, size) for x in (*outputs, merged[-1])], 1))
        return cast(Tensor, self.classifier(fused))


class UperNet(nn.Module):
    """A segmenter: a backbone, a decoder on its maps, and an auxiliary head on stage 3.

    Args:
        backbone: gives four maps (`archsearch.heads.backbone`).
        channels: of the four maps.
        num_classes: K.
        width: channels of every map in the decoder.

    Raises:
        ValueError: K is not from 2 to 255.
    """

    def __init__(
        self, backbone: nn.Module, channels: Sequence[int], num_classes: int, width: int = WIDTH
    ) -> None:
        super().__init__()
        if not 2 <= num_classes <= IGNORED:
            raise ValueError(f"num_classes must be from 2 to {IGNORED}, got {num_classes}")
        self.backbone = backbone
        self.decoder = Decoder(channels, num_classes, width)
        self.auxiliary = nn.Sequential(
            ConvUnit(channels[AUXILIARY_STAGE], AUXILIARY_WIDTH, 3),
            classifier(AUXILIARY_WIDTH, num_classes),
        )
        self.decoder.apply(_init_weights)
        self.auxiliary.apply(_init_weights)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self, images: Tensor, labels: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """`losses` with labels, else `predict`; what DistributedDataParallel calls."""
        return self.predict(images) if labels is None else self.losses(images, labels)

    def predict(self, images: Tensor) -> Tensor:
        """Logits ``(N, K, H, W)`` of images ``(N, 3, H, W)``; call ``eval()`` first."""
        return resized(self.decoder(self.backbone(images)), images.shape[2:])

    def losses(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The cross-entropy summed over the labeled pixels, and the number of those pixels.

        That of the auxiliary head is added with weight 0.4.

        Args:
            images: ``(N, 3, H, W)``; two or more while training, as the mean over a whole map is
                one pixel, and BatchNorm needs two.
            labels: ``(N, H, W)`` int64, from 0 to K - 1, or 255 for a pixel without a label.

        Raises:
            ValueError: the labels have another shape or type, or one image is given while training.
        """
        self._check(images, labels)
        maps = self.backbone(images)
        loss = _summed_loss(self.decoder(maps), labels)
        auxiliary = _summed_loss(self.auxiliary(maps[AUXILIARY_STAGE]), labels)
        return loss + AUXILIARY_WEIGHT * auxiliary, (labels != IGNORED).sum()

    def _check(self, images: Tensor, labels: Tensor) -> None:
        problems = label_problems(images, labels)
        if self.training and len(images) == 1:
            problems.append("UperNet trains on two or more images at once (BatchNorm), got 1")
        if problems:
            raise ValueError("; ".join(problems))


def label_problems(images: Tensor, labels: Tensor) -> list[str]:
    """What is wrong with the label maps of images: nothing if they are ``(N, H, W)`` int64."""
    wanted = (images.shape[0], *images.shape[2:])
    if labels.shape == wanted and labels.dtype == torch.int64:
        return []
    got = f"{tuple(labels.shape)} {str(labels.dtype).removeprefix('torch.')}"
    return [f"labels: wanted {wanted} int64, got {got}"]


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """``x`` ``(N, C, h, w)`` at other sides, by bilinear interpolation."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def classifier(channels: int, num_classes: int) -> nn.Sequential:
    """Dropout of whole channels and a 1x1 convolution."""
    return nn.Sequential(nn.Dropout2d(DROPOUT), nn.Conv2d(channels, num_classes, 1))


def _summed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    logits = resized(logits, labels.shape[1:])
    return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")


def _init_weights(module: nn.Module) -> None:
    """Kaiming-normal convolutions, and classifiers of standard deviation 0.01 with zero bias."""
    if isinstance(module, nn.Conv2d) and module.bias is None:
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(cast(Tensor, module.bias))
