"""The operators of the paper's ablations, each against a case that reduces to a known result."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from internimage.config import PRESETS, ModelConfig, Operator
from internimage.dcnv3 import DCNv3, sampling_points
from internimage.model import InternImage, create_model
from internimage.operators import (
    DeformableAttention,
    DepthwiseConv,
    SigmoidDCNv3,
    UnsharedDCNv3,
    build_operator,
)

SMALL = ModelConfig((8, 16, 32, 64), (1, 1, 1, 1), (2, 4, 8, 16), num_classes=5)
X = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(2))


def randomize(dcn: DCNv3) -> None:
    torch.manual_seed(1)
    for linear in (dcn.offset, dcn.mask):
        nn.init.normal_(linear.weight, std=0.5)
        nn.init.normal_(linear.bias, std=0.5)


def copy_weights(into: DCNv3, source: DCNv3) -> DCNv3:
    own = {key for key, value in into.state_dict().items()}
    state = {k: v for k, v in source.state_dict().items() if k in own and "output" not in k}
    into.load_state_dict(state, strict=False)
    return into


def test_build_operator_follows_the_configuration() -> None:
    kinds: dict[Operator, type[DCNv3]] = {
        "dcnv3": DCNv3,
        "dcnv3-sigmoid": SigmoidDCNv3,
        "dcnv3-unshared": UnsharedDCNv3,
        "deformable-attention": DeformableAttention,
    }
    for operator, kind in kinds.items():
        config = replace(SMALL, operator=operator, kernel_size=5, offset_scale=2.0)
        dcn = build_operator(config, 1)
        assert type(dcn) is kind
        assert (dcn.channels, dcn.groups, dcn.kernel_size) == (16, 4, 5)
        assert dcn.offset_scale == 2.0


@pytest.mark.parametrize("options", [{}, {"offset_scale": 2.0}, {"remove_center": True}])
def test_equal_unshared_weights_give_the_shared_result(options: dict[str, float]) -> None:
    torch.manual_seed(0)
    shared = DCNv3(8, 2, **options)  # type: ignore[arg-type]
    randomize(shared)
    unshared = copy_weights(UnsharedDCNv3(8, 2, **options), shared)
    with torch.no_grad():
        unshared.output_proj.weight.copy_(shared.output_proj.weight.repeat(1, shared.points))
        unshared.output_proj.bias.copy_(shared.output_proj.bias)
    torch.testing.assert_close(unshared(X), shared(X), rtol=1e-4, atol=1e-5)


def test_each_point_has_its_own_unshared_weights() -> None:
    """Only point 5, one row below the center, has weights, so the output is its sample."""
    dcn = UnsharedDCNv3(8, 2)
    with torch.no_grad():
        dcn.output_proj.weight.zero_()
        dcn.output_proj.weight.view(8, 9, 8)[:, 5] = torch.eye(8)
    projected = dcn.input_proj(X)
    below = torch.zeros_like(projected)
    below[:, :-1] = projected[:, 1:]
    torch.testing.assert_close(dcn(X), below / 9)


def test_sigmoid_scalars_do_not_sum_to_one() -> None:
    torch.manual_seed(0)
    softmax = DCNv3(8, 2)
    sigmoid = copy_weights(SigmoidDCNv3(8, 2), softmax)
    sigmoid.output_proj = softmax.output_proj
    torch.testing.assert_close(sigmoid(X), softmax(X) * 4.5)
    randomize(sigmoid)
    _, weights = sampling_points(sigmoid, X)
    assert weights.sum(-1).std() > 0.1


def test_deformable_attention_reads_the_query_and_starts_in_each_heads_direction() -> None:
    dcn = DeformableAttention(8, 4, offset_scale=2.0)
    points, weights = sampling_points(dcn, torch.zeros(1, 1, 1, 8))
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 9))
    reach = torch.arange(1, 10) / 3
    zero = torch.zeros(9)
    expected = [(reach, zero), (zero, reach), (-reach, zero), (zero, -reach)]
    for g, (x, y) in enumerate(expected):
        torch.testing.assert_close(points[0, 0, 0, g], torch.stack((x, y), -1))
    assert torch.equal(dcn.side_branch(X), X)
    assert not any(key.startswith("dw_") for key in dcn.state_dict())


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_a_depthwise_layer_is_a_sum_over_the_window_of_each_channel(kernel_size: int) -> None:
    torch.manual_seed(3)
    layer, half = DepthwiseConv(8, kernel_size), kernel_size // 2
    x = layer.input_proj(X)
    total = layer.dw_conv.bias.expand_as(x).clone()  # type: ignore[union-attr]
    for i, y in enumerate(range(-half, half + 1)):
        for j, dx in enumerate(range(-half, half + 1)):
            for row in range(max(0, -y), min(4, 4 - y)):
                for column in range(max(0, -dx), min(6, 6 - dx)):
                    tap = layer.dw_conv.weight[:, 0, i, j]
                    total[:, row, column] += tap * x[:, row + y, column + dx]
    torch.testing.assert_close(layer(X), layer.output_proj(total))


def test_equal_weights_of_a_window_give_a_new_dcnv3_layer() -> None:
    """Without offsets and with equal scalars DCNv3 is the convolution with weights 1/9."""
    torch.manual_seed(4)
    dcn, plain = DCNv3(8, 2), DepthwiseConv(8)
    with torch.no_grad():
        plain.dw_conv.weight.fill_(1 / 9)
        plain.dw_conv.bias.zero_()  # type: ignore[union-attr]
    for name in ("input_proj", "output_proj"):
        getattr(plain, name).load_state_dict(getattr(dcn, name).state_dict())
    torch.testing.assert_close(plain(X), dcn(X))


def test_a_depthwise_network_has_the_frame_s_initial_weights() -> None:
    torch.manual_seed(0)
    block = InternImage(replace(SMALL, operator="depthwise", kernel_size=7)).levels[1].blocks[0]
    assert isinstance(block.dcn, DepthwiseConv)
    assert block.dcn.dw_conv.weight.shape == (16, 1, 7, 7)
    bound = (6 / (2 * 16)) ** 0.5  # Xavier's, for C to C
    for linear in (block.dcn.input_proj, block.dcn.output_proj):
        assert 0.9 * bound < linear.weight.abs().max() <= bound
        assert not linear.bias.any()


@pytest.mark.parametrize(
    "operator", ["dcnv3-sigmoid", "dcnv3-unshared", "deformable-attention", "depthwise"]
)
def test_each_variant_trains_every_parameter(operator: Operator) -> None:
    torch.manual_seed(0)
    model = InternImage(replace(SMALL, operator=operator))
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_parameters_of_the_variants() -> None:
    with torch.device("meta"):
        table_f = create_model("B", operator="dcnv3-unshared", groups=(1, 1, 1, 1))
        attention = create_model("T", operator="deformable-attention")
        sigmoid = create_model("T", operator="dcnv3-sigmoid")
    count = [sum(p.numel() for p in m.parameters()) for m in (table_f, attention, sigmoid)]
    t = PRESETS["T"].config
    # Without the depth-wise convolution (3x3 and a bias) and its norm (weight, bias).
    side = sum(depth * c * 12 for depth, c in zip(t.depths, t.channels, strict=True))
    assert count == [146_286_211, 29_918_424 - side, 29_918_424]
