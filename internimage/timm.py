"""InternImage for timm: importing this module registers ``internimage_t`` ... ``internimage_h``.

>>> import timm
>>> import internimage.timm
>>> timm.create_model("internimage_t", features_only=True, out_indices=(1, 2, 3), in_chans=1)

The names of weights are those of `InternImage`. There are no pretrained weights to download.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch.nn.functional as F
from timm.layers import SelectAdaptivePool2d
from timm.models import (
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
    register_notrace_module,
)
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from internimage.config import PRESETS, preset_config
from internimage.heads import AttentionHead, PlainHead
from internimage.model import STAGES, Block, Downsample, InternImage, Stage, Stem

STRIDE = 4
"""Of the first map; each further one has twice the stride."""


class TimmInternImage(InternImage):
    """An InternImage with the interface of timm's networks.

    Args:
        preset: T, S, B, L, XL or H.
        in_chans: channels of the images.
        num_classes: 0 leaves out the last layer; the network then returns what it would read.
        global_pool: timm's name of the pooling; empty for a map. H has its own, and only ``avg``.
        drop_rate: dropout before the last layer.
        drop_path_rate: replaces the preset's.
        fields: other fields of the configuration.
    """

    def __init__(
        self,
        preset: str,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float | None = None,
        **fields: Any,
    ) -> None:
        if drop_path_rate is not None:
            fields["drop_path"] = drop_path_rate
        config = preset_config(preset, num_classes=max(num_classes, 1), **fields)
        super().__init__(config, in_chans=in_chans)
        self.num_features = self.config.channels[-1]
        linear = cast(nn.Linear, self.get_classifier())
        self.head_hidden_size = linear.in_features
        self.drop_rate = drop_rate
        self.feature_info = [
            {"num_chs": c, "reduction": STRIDE * 2**i, "module": f"levels.{i}"}
            for i, c in enumerate(self.config.channels)
        ]
        self.num_classes = num_classes
        self.reset_classifier(num_classes, global_pool, new=num_classes == 0)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, classes)``; features if there is no last layer."""
        if isinstance(self.head, AttentionHead):
            _, maps = self.forward_intermediates(x)
            return cast(Tensor, self.head(tuple(maps)))
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """The last map ``(N, C, H/32, W/32)``."""
        return self.forward_intermediates(x, 1)[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of the last map; what the last layer reads if ``pre_logits``.

        Raises:
            ValueError: the head is that of H, which reads two maps.
        """
        if not isinstance(self.head, PlainHead):
            raise ValueError("the head of internimage_h reads two maps: call the network itself")
        x = self.global_pool(F.gelu(self.head.norm(self.head.conv(x))))
        x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else cast(Tensor, self.head.linear(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,  # noqa: ARG002  the maps have the norm of their stage, if it has one
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps of these stages, and the last one that is computed.

        Raises:
            ValueError: another format than NCHW.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt: wanted NCHW, got {output_fmt!r}")
        take, last = feature_take_indices(len(self.levels), indices)
        stages = cast(list[Stage], list(self.levels))
        x, maps = self.patch_embed(x), []
        for i, stage in enumerate(stages[: last + 1] if stop_early else stages):
            x = stage(x)
            features = x.permute(0, 3, 1, 2)
            if i in take:
                maps.append(features)
            if stage.downsample is not None:
                x = stage.downsample(x)
        return maps if intermediates_only else (features, maps)

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] = 1,
        prune_norm: bool = False,  # noqa: ARG002
        prune_head: bool = True,
    ) -> list[int]:
        """Remove the stages after the last of ``indices``; the indices that are left."""
        take, last = feature_take_indices(len(self.levels), indices)
        self.levels = self.levels[: last + 1]
        cast(Stage, self.levels[-1]).downsample = None
        if prune_head or last + 1 < STAGES:
            self.head = None
            self.num_features = self.head_hidden_size = self.config.channels[last]
        return cast(list[int], take)

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        assert self.head is not None, "the head is pruned only with features_only"
        return self.head.linear

    def reset_classifier(
        self, num_classes: int, global_pool: str | None = None, new: bool = True
    ) -> None:
        """Start a new last layer, or leave it out; change the pooling if it is given.

        Raises:
            ValueError: a pooling for H, whose attention pools.
        """
        if isinstance(self.head, AttentionHead) and global_pool not in (None, "avg"):
            raise ValueError(f"internimage_h pools by attention, got global_pool {global_pool!r}")
        if global_pool is not None:
            self.global_pool = SelectAdaptivePool2d(
                pool_type=global_pool, flatten=bool(global_pool)
            )
        self.num_classes = num_classes
        if new:
            layer = nn.Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()
            cast(PlainHead | AttentionHead, self.head).linear = layer  # type: ignore[assignment]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As `set_gradient_checkpointing`."""
        self.set_gradient_checkpointing(enable)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """The names of weights by layer, in forward order, for layer-wise decay."""
        after = (r"^levels\.(\d+)\.(?:post_norms|norm|downsample)", (99999,))
        blocks = [(r"^levels\.(\d+)\.blocks\.(\d+)", None), after]
        return {"stem": r"^patch_embed", "blocks": r"^levels\.(\d+)" if coarse else blocks}


default_cfgs = generate_default_cfgs(
    {
        f"internimage_{name.lower()}": {
            "url": "",
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (7, 7),
            "crop_pct": 0.875,
            "interpolation": "bicubic",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "patch_embed.conv1",
            "classifier": "head.linear",
        }
        for name in PRESETS
    }
)


def _register(preset: str) -> None:
    name = f"internimage_{preset.lower()}"

    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        features = {"out_indices": (0, 1, 2, 3), "feature_cls": "getter"}
        kind = partial(TimmInternImage, preset)
        return cast(
            nn.Module,
            build_model_with_cfg(kind, name, pretrained, feature_cfg=features, **options),
        )

    create.__name__ = name
    register_model(create)


for _name in PRESETS:
    _register(_name)

for _layer in (Stem, Block, Downsample):  # they choose kernels by device and size
    register_notrace_module(_layer)
