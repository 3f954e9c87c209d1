"""Vision Transformer (Dosovitskiy et al., ICLR 2021) in torch: patches, class token, blocks, head.

Parameters have timm's names and shapes, so that weights of its ``vit_*_patch16_224`` and
``deit_*_patch16_224`` load as they are. Shape suffixes: N images, T tokens (the class token, then
the patches row by row), C channels; maps are NHWC.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from internimage.conv import conv_nhwc
from internimage.model import MLP, DropPath, drop_path_rates, layer_norm


class PatchEmbed(nn.Module):
    """A convolution of stride = kernel = ``patch``: ``(N, 3, H, W)`` to a map of patches."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """The map ``(N, rows, columns, C)``.

        Zeros fill up the last row and column of patches of an image whose sides are no multiples
        of the patch.
        """
        patch = self.proj.kernel_size[0]
        rows, columns = (-side % patch for side in images.shape[2:])
        if rows or columns:
            images = F.pad(images, (0, columns, 0, rows))
        return conv_nhwc(self.proj, images.permute(0, 2, 3, 1).contiguous())


class Attention(nn.Module):
    """Multi-head self-attention on tokens ``(N, T, C)``.

    torch's fast attention has first derivatives in reverse mode only, and says so. For others, call
    the network under ``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_NTC: Tensor) -> Tensor:
        qkv = self.qkv(x_NTC).reshape(*x_NTC.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv.unbind(0))  # (N, heads, T, C / heads)
        return cast(Tensor, self.proj(attended.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """Residual branches of attention and MLP, each after a LayerNorm (pre-norm)."""

    def __init__(self, width: int, heads: int, mlp_width: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = layer_norm(width)
        self.attn = Attention(width, heads)
        self.norm2 = layer_norm(width)
        self.mlp = MLP(width, mlp_width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_NTC: Tensor) -> Tensor:
        x_NTC = x_NTC + cast(Tensor, self.drop_path(self.attn(self.norm1(x_NTC))))
        return x_NTC + cast(Tensor, self.drop_path(self.mlp(self.norm2(x_NTC))))


class ViTModel(nn.Module):
    """A Vision Transformer of this width and depth.

    Args:
        width, depth, mlp_width: channels of a token, number of blocks, hidden channels of the MLPs.
        heads: number of attention heads; divides the width.
        patch: side of a patch in pixels.
        grid: side of the square of patches that has learned positions; they are resampled for
            images of another size (bicubic with antialiasing, as published code does).
        drop_path: rate of the last block; the rates of the others grow linearly from 0.
        num_classes: number of logits.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        mlp_width: int,
        *,
        heads: int,
        patch: int = 16,
        grid: int = 14,
        drop_path: float = 0.0,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.patch_embed = PatchEmbed(width, patch)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + grid**2, width))
        rates = drop_path_rates(drop_path, depth)
        self.blocks = nn.Sequential(*(Block(width, heads, mlp_width, rate) for rate in rates))
        self.norm = layer_norm(width)
        self.head = nn.Linear(width, num_classes)
        self._init_weights()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, classes)`` of images ``(N, 3, H, W)``.

        Raises:
            ValueError: the images are not ``(N, 3, H, W)``.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images: wanted (N, 3, H, W), got {tuple(images.shape)}")
        x_NTC = self.blocks(self._tokens(self.patch_embed(images)))
        return cast(Tensor, self.head(self.norm(x_NTC[:, 0])))

    def _tokens(self, patches_NHWC: Tensor) -> Tensor:
        """Class token and patches with their positions, ``(N, 1 + rows * columns, C)``."""
        positions = self.positions(*patches_NHWC.shape[1:3])
        class_tokens = self.cls_token.expand(patches_NHWC.shape[0], -1, -1)
        return torch.cat((class_tokens, patches_NHWC.flatten(1, 2)), 1) + positions

    def positions(self, rows: int, columns: int) -> Tensor:
        """The positions of the class token and of these patches, ``(1, 1 + rows * columns, C)``."""
        if (rows, columns) == (self.grid, self.grid):
            return self.pos_embed
        square_1HWC = self.pos_embed[:, 1:].reshape(1, self.grid, self.grid, -1)
        resampled = F.interpolate(
            square_1HWC.permute(0, 3, 1, 2), (rows, columns), mode="bicubic", antialias=True
        )
        return torch.cat((self.pos_embed[:, :1], resampled.flatten(2).transpose(1, 2)), 1)

    def no_weight_decay(self) -> set[str]:
        """The parameters that the optimizer does not decay, beside vectors."""
        return {"cls_token", "pos_embed"}

    def _init_weights(self) -> None:
        """As timm: all Linears and the positions truncated normal, biases zero, patches by
        torch's rule, which divides by the number of their pixels."""
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
