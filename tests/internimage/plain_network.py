"""A second InternImage as a reference: NCHW, float64, plain functions of a released state dict.

It is written from the published description and uses only ``ModelConfig`` of the package. The names
and shapes of the weights are those of the released checkpoints.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from internimage.config import ModelConfig

State = dict[str, Tensor]


class _Writer:
    """Writes random weights; norms are far from identity and offsets are about a pixel."""

    def __init__(self, seed: int) -> None:
        self.state: State = {}
        self.generator = torch.Generator().manual_seed(seed)

    def tensor(self, name: str, *shape: int, mean: float = 0.0, std: float = 1.0) -> None:
        noise = torch.randn(*shape, generator=self.generator, dtype=torch.float64)
        self.state[name] = (mean + std * noise).float()

    def linear(self, name: str, out: int, into: int, bias: bool = True) -> None:
        self.tensor(f"{name}.weight", out, into, std=into**-0.5)
        if bias:
            self.tensor(f"{name}.bias", out, std=0.3)

    def conv(self, name: str, out: int, into: int, kernel: int, bias: bool = True) -> None:
        self.tensor(f"{name}.weight", out, into, kernel, kernel, std=(into * kernel**2) ** -0.5)
        if bias:
            self.tensor(f"{name}.bias", out, std=0.3)

    def norm(self, name: str, channels: int) -> None:
        self.tensor(f"{name}.weight", channels, mean=1.0, std=0.2)
        self.tensor(f"{name}.bias", channels, std=0.2)


def released_state(c: ModelConfig, seed: int = 0) -> State:
    """The state dict that a released checkpoint of this network would hold under ``model``."""
    w = _Writer(seed)
    w.conv("patch_embed.conv1", c.channels[0] // 2, 3, 3)
    w.norm("patch_embed.norm1.1", c.channels[0] // 2)
    w.conv("patch_embed.conv2", c.channels[0], c.channels[0] // 2, 3)
    w.norm("patch_embed.norm2.1", c.channels[0])
    for i, (channels, depth) in enumerate(zip(c.channels, c.depths, strict=True)):
        for j in range(depth):
            _write_block(w, f"levels.{i}.blocks.{j}", c, channels, c.groups[i])
        if c.stage_end_norm:
            w.norm(f"levels.{i}.norm.0", channels)
        if i < 3:
            w.conv(f"levels.{i}.downsample.conv", 2 * channels, channels, 3, bias=False)
            w.norm(f"levels.{i}.downsample.norm.1", 2 * channels)
    for j in range(c.depths[2] // 6 if c.stage3_extra_norms else 0):
        w.norm(f"levels.2.post_norms.{j}.0", c.channels[2])
    _write_head(w, c)
    return w.state


def _write_block(w: _Writer, name: str, c: ModelConfig, channels: int, groups: int) -> None:
    points = c.kernel_size**2 - int(c.remove_center)
    w.norm(f"{name}.norm1.0", channels)
    w.conv(f"{name}.dcn.dw_conv.0", channels, 1, c.dw_kernel_size or c.kernel_size)
    w.norm(f"{name}.dcn.dw_conv.1.1", channels)
    w.linear(f"{name}.dcn.offset", groups * points * 2, channels)
    w.linear(f"{name}.dcn.mask", groups * points, channels)
    w.linear(f"{name}.dcn.input_proj", channels, channels)
    w.linear(f"{name}.dcn.output_proj", channels, channels)
    if c.center_feature_scale:
        w.tensor(f"{name}.dcn.center_feature_scale_proj_weight", groups, channels, std=0.3)
        w.tensor(f"{name}.dcn.center_feature_scale_proj_bias", groups, std=0.3)
    w.norm(f"{name}.norm2.0", channels)
    w.linear(f"{name}.mlp.fc1", 4 * channels, channels)
    w.linear(f"{name}.mlp.fc2", channels, 4 * channels)
    for branch in ("1", "2"):
        if c.layer_scale is not None:
            w.tensor(f"{name}.gamma{branch}", channels, mean=0.5, std=0.2)
        if c.norm == "res-post":
            w.norm(f"{name}.res_post_norm{branch}.0", channels)


def _write_head(w: _Writer, c: ModelConfig) -> None:
    if c.head == "plain":
        width = c.channels[3] * 3 // 2
        w.conv("conv_head.0", width, c.channels[3], 1, bias=False)
        w.norm("conv_head.1.0", width)
        w.tensor("conv_head.1.0.running_mean", width, std=0.3)
        w.state["conv_head.1.0.running_var"] = torch.linspace(0.5, 1.5, width)
        w.state["conv_head.1.0.num_batches_tracked"] = torch.tensor(7)
        w.linear("head", c.num_classes, width)
        return
    w.conv("dcnv3_head_x4.0", 4 * 1024, c.channels[3], 1)
    w.conv("dcnv3_head_x3", 1024, c.channels[2], 1)
    for part in "qkv":
        w.norm(f"clip_projector.norm1_{part}.0", 1024)
        w.linear(f"clip_projector.cross_dcn.{part}", 1024, 1024, bias=False)
        w.tensor(f"clip_projector.cross_dcn.{part}_bias", 1024, std=0.3)
    w.linear("clip_projector.cross_dcn.proj", 768, 1024)
    w.norm("fc_norm.0", 768)
    w.linear("head", c.num_classes, 768)


def plain_maps(state: State, c: ModelConfig, images: Tensor) -> list[Tensor]:
    """The four stage maps, NCHW."""
    x = F.gelu(_norm(state, "patch_embed.norm1.1", _conv(state, "patch_embed.conv1", images, 2, 1)))
    x = _norm(state, "patch_embed.norm2.1", _conv(state, "patch_embed.conv2", x, 2, 1))
    maps = []
    for i, depth in enumerate(c.depths):
        for j in range(depth):
            x = _block(state, f"levels.{i}.blocks.{j}", c, c.groups[i], x)
            if i == 2 and c.stage3_extra_norms and j % 6 == 5:
                x = _norm(state, f"levels.2.post_norms.{j // 6}.0", x)
        if c.stage_end_norm:
            x = _norm(state, f"levels.{i}.norm.0", x)
        maps.append(x)
        if i < 3:
            x = _conv(state, f"levels.{i}.downsample.conv", x, 2, 1)
            x = _norm(state, f"levels.{i}.downsample.norm.1", x)
    return maps


def plain_logits(
    state: State, c: ModelConfig, images: Tensor, batch_statistics: bool = False
) -> Tensor:
    """Logits; with ``batch_statistics`` BatchNorm works as in training."""
    x3, x4 = plain_maps(state, c, images)[2:]
    if c.head == "plain":
        x = _conv(state, "conv_head.0", x4)
        x = F.gelu(_batch_norm(state, "conv_head.1.0", x, batch_statistics)).mean((2, 3))
        return _linear(state, "head", x)
    up = F.pixel_shuffle(_conv(state, "dcnv3_head_x4.0", x4), 2)
    up = up[:, :, : x3.shape[2], : x3.shape[3]]
    tokens = (up + _conv(state, "dcnv3_head_x3", x3)).flatten(2).transpose(1, 2)
    x = _norm(state, "fc_norm.0", _attention_pool(state, tokens), axis=-1)
    return _linear(state, "head", x)


def _block(state: State, name: str, c: ModelConfig, groups: int, x: Tensor) -> Tensor:
    for branch in ("1", "2"):
        y = x
        if c.norm in ("pre", "res-post"):
            y = _norm(state, f"{name}.norm{branch}.0", y)
        if branch == "1":
            y = _dcn(state, f"{name}.dcn", c, groups, y)
        else:
            y = F.gelu(_linear(state, f"{name}.mlp.fc1", y, axis=1))
            y = _linear(state, f"{name}.mlp.fc2", y, axis=1)
        if c.norm == "post":
            y = _norm(state, f"{name}.norm{branch}.0", y)
        if c.norm == "res-post":
            y = _norm(state, f"{name}.res_post_norm{branch}.0", y)
        if c.layer_scale is not None:
            y = y * state[f"{name}.gamma{branch}"].double().view(-1, 1, 1)
        x = x + y
    return x


def _dcn(state: State, name: str, c: ModelConfig, groups: int, x: Tensor) -> Tensor:
    side_kernel = c.dw_kernel_size or c.kernel_size
    side = _conv(state, f"{name}.dw_conv.0", x, 1, side_kernel // 2, groups=x.shape[1])
    side = F.gelu(_norm(state, f"{name}.dw_conv.1.1", side))
    projected = _linear(state, f"{name}.input_proj", x, axis=1)
    offset = _linear(state, f"{name}.offset", side, axis=1)
    mask = _linear(state, f"{name}.mask", side, axis=1)
    y = _eq2(projected, offset, mask, c, groups)
    if c.center_feature_scale:
        gate = torch.einsum(
            "nchw,gc->nghw", side, state[f"{name}.center_feature_scale_proj_weight"].double()
        )
        gate = gate + state[f"{name}.center_feature_scale_proj_bias"].double().view(-1, 1, 1)
        gate = gate.sigmoid().repeat_interleave(x.shape[1] // groups, 1)
        y = y * (1 - gate) + projected * gate
    return _linear(state, f"{name}.output_proj", y, axis=1)


def _eq2(x: Tensor, offset: Tensor, mask: Tensor, c: ModelConfig, groups: int) -> Tensor:
    """Eq. 2, one point at a time; the outer loop i is over columns, the inner j over rows."""
    images, channels, height, width = x.shape
    radius = c.kernel_size // 2
    taps = [(i, j) for i in range(-radius, radius + 1) for j in range(-radius, radius + 1)]
    if c.remove_center:
        taps.remove((0, 0))
    planes = x.reshape(images * groups, channels // groups, height, width)
    shift = offset.reshape(images * groups, len(taps), 2, height, width)
    weight = mask.reshape(images * groups, len(taps), height, width).softmax(1)
    column = torch.arange(width, dtype=x.dtype)
    row = torch.arange(height, dtype=x.dtype).view(-1, 1)
    total = torch.zeros_like(planes)
    for k, (i, j) in enumerate(taps):
        px = column + (i + shift[:, k, 0]) * c.offset_scale
        py = row + (j + shift[:, k, 1]) * c.offset_scale
        unit = torch.stack(((2 * px + 1) / width - 1, (2 * py + 1) / height - 1), -1)
        sample = F.grid_sample(planes, unit, padding_mode="zeros", align_corners=False)
        total = total + weight[:, k, None] * sample
    return total.reshape(x.shape)


def _attention_pool(state: State, tokens: Tensor) -> Tensor:
    name = "clip_projector"
    inputs = {"q": tokens.mean(1, keepdim=True), "k": tokens, "v": tokens}
    heads = {}
    for part, x in inputs.items():
        x = _norm(state, f"{name}.norm1_{part}.0", x, axis=-1)
        x = x @ state[f"{name}.cross_dcn.{part}.weight"].double().t()
        x = x + state[f"{name}.cross_dcn.{part}_bias"].double()
        heads[part] = x.reshape(*x.shape[:2], 16, 64).transpose(1, 2)
    scores = (heads["q"] @ heads["k"].transpose(2, 3) / math.sqrt(64)).softmax(-1)
    pooled = (scores @ heads["v"]).reshape(tokens.shape[0], 1024)
    return _linear(state, f"{name}.cross_dcn.proj", pooled)


def _conv(
    state: State, name: str, x: Tensor, stride: int = 1, padding: int = 0, groups: int = 1
) -> Tensor:
    bias = state.get(f"{name}.bias")
    weight = state[f"{name}.weight"].double()
    return F.conv2d(
        x, weight, None if bias is None else bias.double(), stride, padding, groups=groups
    )


def _linear(state: State, name: str, x: Tensor, axis: int = -1) -> Tensor:
    y = x.movedim(axis, -1) @ state[f"{name}.weight"].double().t()
    return (y + state[f"{name}.bias"].double()).movedim(-1, axis)


def _norm(state: State, name: str, x: Tensor, axis: int = 1) -> Tensor:
    x = x.movedim(axis, -1)
    x = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, correction=0, keepdim=True) + 1e-6)
    x = x * state[f"{name}.weight"].double() + state[f"{name}.bias"].double()
    return x.movedim(-1, axis)


def _batch_norm(state: State, name: str, x: Tensor, batch_statistics: bool) -> Tensor:
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    if not batch_statistics:
        mean, var = (state[f"{name}.running_{part}"].double() for part in ("mean", "var"))
    x = x.movedim(1, -1)
    x = (x - mean) / torch.sqrt(var + 1e-5)
    x = x * state[f"{name}.weight"].double() + state[f"{name}.bias"].double()
    return x.movedim(-1, 1)
