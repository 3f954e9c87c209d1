"""The operators of ONNX that stand for DCNv3 compute what it computes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cuda_ops import dcnv3
from cuda_ops.geometry import ConvArgs
from internimage.lowering import deform_conv, grid_sample
from internimage.onnx import OPSET
from internimage.program import exporting

CALLS = {
    "plain": ConvArgs(2, softmax=True),
    "without softmax": ConvArgs(2),
    "5x5, without center, scaled": ConvArgs(3, 5, 1, 2, 1, 2.0, True, True),
    "strided and dilated": ConvArgs(2, 3, 2, 1, 2, 0.5, False, True),
    "one point": ConvArgs(2, 1, 1, 0),
    "even kernel": ConvArgs(2, 2, 1, 0, softmax=True),
}


def tensors(args: ConvArgs, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    num_images, height, width = 2, 7, 6
    rows, columns = args.output_size(height, width)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=generator, dtype=dtype)

    x = random(num_images, height, width, 6 * args.groups)
    points = args.groups * args.num_points
    offset = random(num_images, rows, columns, 2 * points, scale=1.5)
    return x, offset, random(num_images, rows, columns, points)


@pytest.mark.parametrize("name", CALLS)
def test_grid_sample_computes_the_operator(name: str) -> None:
    args = CALLS[name]
    x, offset, mask = tensors(args, torch.float64)
    expected = dcnv3(x, offset, mask, **args._asdict(), backend="torch")
    got = grid_sample(x, offset, mask, *args)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


class Call(nn.Module):
    def __init__(self, args: ConvArgs) -> None:
        super().__init__()
        self.numbers = args._asdict()

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        return dcnv3(x, offset, mask, **self.numbers)


@pytest.mark.parametrize("name", CALLS)
def test_deform_conv_computes_the_operator(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    args = CALLS[name]
    inputs = tensors(args, torch.float32)
    with exporting():
        torch.onnx.export(
            Call(args).eval(),
            inputs,
            tmp_path / "call.onnx",
            dynamo=True,
            opset_version=OPSET,
            input_names=["x", "offset", "mask"],
            custom_translation_table={torch.ops.archsearch.dcnv3.default: deform_conv},
            verbose=False,
        )
    session = onnxruntime.InferenceSession(tmp_path / "call.onnx")
    named = zip(("x", "offset", "mask"), inputs, strict=True)
    (got,) = session.run(None, {key: value.numpy() for key, value in named})
    expected = dcnv3(*(tensor.double() for tensor in inputs), **args._asdict(), backend="torch")
    torch.testing.assert_close(torch.from_numpy(got).double(), expected, rtol=1e-5, atol=1e-5)
