"""Classification heads: the plain one of T to XL and the attention pooling of H."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from internimage.config import POOLED_CHANNELS, TOKEN_CHANNELS, ModelConfig
from internimage.dcnv3 import LAYER_NORM_EPS

ATTENTION_HEADS = 16


class PlainHead(nn.Module):
    """1x1 convolution to 1.5*C4 - BatchNorm - GELU - average pool - Linear (released models)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.plain_head_channels
        self.conv = nn.Conv2d(config.channels[3], width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, config.num_classes)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """Logits ``(N, classes)`` from the NCHW stage maps; only the last map is used."""
        x = F.gelu(self.norm(self.conv(maps[3])))
        return cast(Tensor, self.linear(x.mean((2, 3))))


class AttentionHead(nn.Module):
    """H's head: attention pooling of stages 3 and 4, with the mean token as the query.

    PixelShuffle brings stage 4 to stage 3's resolution. If stage 3 has an odd side, the shuffled
    map has one extra row or column, which is cut off (the released code fails in this case).

    torch's fast attention has first derivatives in reverse mode only, and says so. For others, call
    the network under ``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.project4 = nn.Conv2d(config.channels[3], 4 * TOKEN_CHANNELS, 1)
        self.project3 = nn.Conv2d(config.channels[2], TOKEN_CHANNELS, 1)
        self.norm_q = nn.LayerNorm(TOKEN_CHANNELS, eps=LAYER_NORM_EPS)
        self.norm_k = nn.LayerNorm(TOKEN_CHANNELS, eps=LAYER_NORM_EPS)
        self.norm_v = nn.LayerNorm(TOKEN_CHANNELS, eps=LAYER_NORM_EPS)
        self.q = nn.Linear(TOKEN_CHANNELS, TOKEN_CHANNELS)
        self.k = nn.Linear(TOKEN_CHANNELS, TOKEN_CHANNELS)
        self.v = nn.Linear(TOKEN_CHANNELS, TOKEN_CHANNELS)
        self.proj = nn.Linear(TOKEN_CHANNELS, POOLED_CHANNELS)
        self.norm = nn.LayerNorm(POOLED_CHANNELS, eps=LAYER_NORM_EPS)
        self.linear = nn.Linear(POOLED_CHANNELS, config.num_classes)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """Logits ``(N, classes)`` from the NCHW stage maps; the last two are used."""
        return cast(Tensor, self.linear(self.norm(self._pool(self._tokens(maps[2], maps[3])))))

    def _tokens(self, stage3: Tensor, stage4: Tensor) -> Tensor:
        rows, columns = stage3.shape[2:]
        fine = F.pixel_shuffle(self.project4(stage4), 2)[:, :, :rows, :columns]
        return cast(Tensor, (fine + self.project3(stage3)).flatten(2).transpose(1, 2))

    def _pool(self, tokens_NTC: Tensor) -> Tensor:
        """Multi-head attention with one query: ``(N, T, 1024)`` to ``(N, 768)``."""
        query = tokens_NTC.mean(1, keepdim=True)
        attended = F.scaled_dot_product_attention(
            _split(self.q(self.norm_q(query))),
            _split(self.k(self.norm_k(tokens_NTC))),
            _split(self.v(self.norm_v(tokens_NTC))),
        )
        return cast(Tensor, self.proj(attended.flatten(1)))


def _split(x_NTC: Tensor) -> Tensor:
    """``(N, T, C)`` to ``(N, heads, T, C / heads)``."""
    shape = (*x_NTC.shape[:2], ATTENTION_HEADS, TOKEN_CHANNELS // ATTENTION_HEADS)
    return x_NTC.reshape(shape).transpose(1, 2)


def build_head(config: ModelConfig) -> PlainHead | AttentionHead:
    """The head of the kind ``config.head``."""
    return AttentionHead(config) if config.head == "attention" else PlainHead(config)
