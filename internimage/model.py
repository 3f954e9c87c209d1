"""InternImage (Fig. 3): stem, four stages of DCNv3 blocks with downsampling between, head.

Maps are NHWC inside the stages; inputs and outputs are NCHW. A convolution reads an NHWC map as a
channels-last NCHW view of the same memory, so no map is copied.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cuda_ops.fused import bias_gelu, runs_native
from internimage.config import ModelConfig, preset_config
from internimage.conv import conv_nhwc
from internimage.dcnv3 import LAYER_NORM_EPS, DCNv3
from internimage.description import UNKNOWN, Preprocessing
from internimage.heads import AttentionHead, PlainHead, build_head
from internimage.in_chans import RGB, checked_in_chans
from internimage.merging import may_bypass
from internimage.operators import DepthwiseConv, build_operator

STAGES = 4
Maps = tuple[Tensor, Tensor, Tensor, Tensor]


def layer_norm(channels: int) -> nn.LayerNorm:
    """LayerNorm over the channels of an NHWC map."""
    return nn.LayerNorm(channels, eps=LAYER_NORM_EPS)


class DropPath(nn.Module):
    """Drops a residual branch for random whole samples; scales the others by 1 / (1 - rate)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep_rate = 1 - self.rate
        keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep_rate)
        return x * (keep / keep_rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.4g}"


class MLP(nn.Module):
    """Linear - GELU - Linear at each pixel."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(self._hidden(x)))

    def _hidden(self, x: Tensor) -> Tensor:
        """GELU of the first layer; the bias is added with it where one kernel does both."""
        weight, bias = self.fc1.weight, self.fc1.bias
        if may_bypass(self.fc1, nn.Linear) and bias is not None and runs_native(x, weight, bias):
            return bias_gelu(F.linear(x, weight), bias)
        return F.gelu(self.fc1(x))


class Stem(nn.Module):
    """Two 3x3 convolutions of stride 2: images ``(N, in_chans, H, W)`` to ``(N, H/4, W/4, C1)``."""

    def __init__(self, channels: int, in_chans: int = RGB) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, channels // 2, 3, stride=2, padding=1)
        self.norm1 = layer_norm(channels // 2)
        self.conv2 = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1)
        self.norm2 = layer_norm(channels)

    def forward(self, images: Tensor) -> Tensor:
        # Channels-last memory; vmap does not support contiguous(memory_format=channels_last).
        x = self.conv1(images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2))
        x = F.gelu(self.norm1(x.permute(0, 2, 3, 1)))
        return cast(Tensor, self.norm2(conv_nhwc(self.conv2, x)))


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2 to twice the channels: ``(N, H, W, C)`` to half the sides."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.norm = layer_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(conv_nhwc(self.conv, x)))


class Block(nn.Module):
    """Core operator and MLP, each a residual branch with its norms placed by ``config.norm``."""

    def __init__(self, config: ModelConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        channels = config.channels[stage]
        self.placement = config.norm
        self.norm1 = layer_norm(channels)
        self.dcn = build_operator(config, stage)
        self.norm2 = layer_norm(channels)
        self.mlp = MLP(channels, config.hidden[stage])
        self.drop_path = DropPath(drop_path)
        self.res_post_norm1 = self.res_post_norm2 = None
        if config.norm == "res-post":
            self.res_post_norm1 = layer_norm(channels)
            self.res_post_norm2 = layer_norm(channels)
        self.gamma1 = self.gamma2 = None
        if config.layer_scale is not None:
            self.gamma1 = nn.Parameter(torch.full((channels,), config.layer_scale))
            self.gamma2 = nn.Parameter(torch.full((channels,), config.layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        x = self._residual(x, self.dcn, self.norm1, self.res_post_norm1, self.gamma1)
        return self._residual(x, self.mlp, self.norm2, self.res_post_norm2, self.gamma2)

    def _residual(
        self,
        x: Tensor,
        branch: nn.Module,
        norm: nn.Module,
        res_post_norm: nn.Module | None,
        gamma: Tensor | None,
    ) -> Tensor:
        y: Tensor = norm(branch(x)) if self.placement == "post" else branch(norm(x))
        if res_post_norm is not None:
            y = res_post_norm(y)
        if gamma is not None:
            y = gamma * y
        return x + cast(Tensor, self.drop_path(y))


class Stage(nn.Module):
    """Blocks at one resolution, with the norms between and after them."""

    def __init__(self, config: ModelConfig, stage: int, drop_path: list[float]) -> None:
        super().__init__()
        channels = config.channels[stage]
        self.blocks = nn.ModuleList(Block(config, stage, rate) for rate in drop_path)
        self.extra_norm_blocks = config.extra_norm_blocks if stage == 2 else ()
        self.post_norms = nn.ModuleList(layer_norm(channels) for _ in self.extra_norm_blocks)
        self.norm = layer_norm(channels) if config.stage_end_norm else None
        last = stage == STAGES - 1
        self.downsample = None if last else Downsample(channels, config.channels[stage + 1])
        self.gradient_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """The stage's map ``(N, H, W, C)``, before downsampling."""
        post_norms = dict(zip(self.extra_norm_blocks, self.post_norms, strict=True))
        for i, block in enumerate(self.blocks):
            if self.gradient_checkpointing and self.training:
                x = cast(Tensor, checkpoint(block, x, use_reentrant=False))
            else:
                x = block(x)
            if i in post_norms:
                x = post_norms[i](x)
        return x if self.norm is None else cast(Tensor, self.norm(x))


class InternImage(nn.Module):
    """The InternImage network that ``config`` describes.

    Args:
        config: the network (``internimage.PRESETS["T"].config`` for a published one).
        features_only: leave out the head; ``forward`` then returns the four stage maps, for a
            detector or segmenter.
        in_chans: channels of the images.

    Build it under ``torch.device("meta")`` to inspect it without allocating its weights.
    ``description`` holds what the file of its weights knows; it may be replaced.
    """

    def __init__(
        self, config: ModelConfig, *, features_only: bool = False, in_chans: int = RGB
    ) -> None:
        super().__init__()
        self.config, self.in_chans = config, checked_in_chans(in_chans)
        self.description = UNKNOWN
        self.patch_embed = Stem(config.channels[0], in_chans)
        rates = iter(drop_path_rates(config.drop_path, sum(config.depths)))
        self.levels = nn.ModuleList(
            Stage(config, i, list(islice(rates, depth))) for i, depth in enumerate(config.depths)
        )
        self.head: PlainHead | AttentionHead | None = None if features_only else build_head(config)
        self.apply(_init_weights)
        self.use_channels_last()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the logits in order; empty if they are not known."""
        return self.description.class_names

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How images become inputs, if that is known."""
        return self.description.preprocessing

    def forward(self, images: Tensor) -> Tensor | Maps:
        """Logits ``(N, classes)`` of images ``(N, 3, H, W)``; the stage maps if ``features_only``.

        Raises:
            ValueError: the images are not ``(N, 3, H, W)``, or have other channels than
                ``in_chans``.
        """
        maps = self.forward_features(images)
        return maps if self.head is None else cast(Tensor, self.head(maps))

    def forward_features(self, images: Tensor) -> Maps:
        """The four stage maps, NCHW in channels-last memory, at strides 4, 8, 16 and 32.

        If a side of the image is not a multiple of 32, each stride rounds it up.
        """
        if images.ndim != 4 or images.shape[1] != self.in_chans:
            wanted = f"(N, {self.in_chans}, H, W)"
            raise ValueError(f"images: wanted {wanted}, got {tuple(images.shape)}")
        x = self.patch_embed(images)
        maps = []
        for stage in self._stages():
            x = stage(x)
            maps.append(x.permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = stage.downsample(x)
        return cast(Maps, tuple(maps))

    def use_channels_last(self) -> None:
        """Store convolution weights channels-last like the maps; else DDP warns and copies."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def set_gradient_checkpointing(self, enable: bool = True) -> None:
        """In training, store only each block's input and recompute the rest in backward."""
        for stage in self._stages():
            stage.gradient_checkpointing = enable

    def layers(self) -> list[list[nn.Module]]:
        """The backbone in forward order: the stem, then each block with what follows it.

        Layer-wise decay of the learning rate needs this order.
        """
        layers: list[list[nn.Module]] = [[self.patch_embed]]
        for stage in self._stages():
            layers += [[block] for block in stage.blocks]
            following = (stage.post_norms, stage.norm, stage.downsample)
            layers[-1] += [module for module in following if module is not None]
        return layers

    def _stages(self) -> Iterable[Stage]:
        return cast(Iterable[Stage], self.levels)


def drop_path_rates(last: float, num_blocks: int) -> list[float]:
    """The rate of each block in order, growing linearly from 0 to ``last``."""
    return [last * i / max(num_blocks - 1, 1) for i in range(num_blocks)]


def _init_weights(module: nn.Module) -> None:
    """Initializes as the released models: Linear truncated normal, operators by their own rule."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, DCNv3 | DepthwiseConv):
        module.reset_parameters()


def create_model(
    name: str, *, features_only: bool = False, in_chans: int = RGB, **overrides: Any
) -> InternImage:
    """Builds a published model (T, S, B, L, XL, H) with some fields of its configuration changed.

    >>> model = create_model("T", num_classes=10, drop_path=0.0)

    Raises:
        ValueError: the model or a field does not exist, or the changed network cannot be built.
    """
    config = preset_config(name, **overrides)
    return InternImage(config, features_only=features_only, in_chans=in_chans)
