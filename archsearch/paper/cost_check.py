"""Check a closed form, such as `archsearch.families.internimage_cost`, against the built module.

Three counts are independent of the closed form: the parameters of the built module, fvcore on its
traced graph, and torch's `FlopCounterMode`. All run on the meta device, so that H at 640 x 640
takes seconds and no memory. For an operator without a handle fvcore only warns and counts zero;
here it is reported as a difference.
"""

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from archsearch.core.cost import Cost
from archsearch.families.internimage_cost import count
from cuda_ops import dcnv3_macs_handle
from internimage.config import ModelConfig
from internimage.model import InternImage

with warnings.catch_warnings():  # fvcore scripts two losses on import, which torch deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)  # the category in newer versions of torch
    from fvcore.nn import FlopCountAnalysis, jit_handles, parameter_count

Handle = Callable[[list[Any], list[Any]], Any]


@dataclass(frozen=True)
class IndependentCount:
    """The result of one method; None for a quantity that it does not count."""

    method: str
    params: int | None = None
    macs: int | None = None
    activations: int | None = None


@dataclass(frozen=True)
class Verification:
    """The closed form, the independent counts, and the operators that fvcore could not count."""

    closed_form: Cost
    counts: tuple[IndependentCount, ...]
    uncounted: tuple[str, ...] = ()

    def differences(self) -> list[str]:
        """A message for every difference; empty if all counts are equal integers."""
        messages = [
            f"{name}: closed form {expected:,}, {result.method} {value:,} ({value - expected:+,})"
            for name in ("params", "macs", "activations")
            for result in self.counts
            if (value := getattr(result, name)) is not None
            and value != (expected := getattr(self.closed_form, name))
        ]
        return messages + [f"fvcore has no handle for {operator}" for operator in self.uncounted]


def verify(config: ModelConfig, height: int = 224, width: int | None = None) -> list[str]:
    """A message for every difference between the closed form and the built module.

    Raises:
        ValueError: a side of the image is less than 1.
    """
    return verification(config, height, width).differences()


def verification(config: ModelConfig, height: int = 224, width: int | None = None) -> Verification:
    """The closed form and three independent counts of ``config``, for one image, square by default.

    Raises:
        ValueError: a side of the image is less than 1.
    """
    return compared(count(config, height, width), lambda: InternImage(config))


def compared(closed_form: Cost, build: Callable[[], nn.Module]) -> Verification:
    """The closed form of any network and three independent counts at its image size."""
    size = closed_form.image_size
    height, width = (size, size) if isinstance(size, int) else size
    with torch.device("meta"):
        model = build().eval()
        image = torch.empty(1, 3, height, width)
    with torch.no_grad():
        by_fvcore, uncounted = count_by_fvcore(model, image)
        counts = (_by_module(model), by_fvcore, _by_flop_counter(model, image))
    return Verification(closed_form, counts, uncounted)


def _by_module(model: nn.Module) -> IndependentCount:
    return IndependentCount("module", params=sum(p.numel() for p in model.parameters()))


def _by_flop_counter(model: nn.Module, image: torch.Tensor) -> IndependentCount:
    """torch counts a multiply-add as two FLOPs, and silently skips unknown operators."""
    with FlopCounterMode(display=False) as counter:
        model(image)
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return IndependentCount("FlopCounterMode", macs=flops // 2)


def count_by_fvcore(
    model: nn.Module, image: torch.Tensor
) -> tuple[IndependentCount, tuple[str, ...]]:
    """fvcore's count of any network in our convention, and the operators without a handle."""
    analysis = FlopCountAnalysis(model, image).clear_op_handles()
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    for operator, macs in _HANDLES.items():
        analysis.set_op_handle(operator, _with_activations(macs))
    for operator in UNCOUNTED_OPERATORS:
        analysis.set_op_handle(operator, None)
    with _TraceableConvolutions():
        totals = analysis.by_operator()
    uncounted = tuple(f"{name} ({n} times)" for name, n in analysis.unsupported_ops().items())
    params = parameter_count(model)[""]
    result = IndependentCount("fvcore", params, totals["macs"], totals["activations"])
    return result, uncounted


def _with_activations(macs: Handle) -> Handle:
    """A handle that counts multiply-adds and activations, so that the model is traced once."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        counted = macs(inputs, outputs)
        total = sum(counted.values()) if isinstance(counted, Counter) else counted
        return Counter(macs=total, activations=prod(outputs[0].type().sizes()))

    return handle


def _attention_macs(inputs: list[Any], _outputs: list[Any]) -> int:
    """Multiply-adds of attention: queries times keys, then weights times values."""
    query, key, value = (tensor.type().sizes() for tensor in inputs[:3])
    scores: int = prod(query[:-1]) * key[-2]
    return scores * int(query[-1] + value[-1])


_HANDLES: dict[str, Handle] = {
    "aten::_convolution": jit_handles.conv_flop_jit,
    "aten::linear": jit_handles.linear_flop_jit,
    "aten::addmm": jit_handles.addmm_flop_jit,
    "aten::bmm": jit_handles.bmm_flop_jit,
    "aten::mm": jit_handles.matmul_flop_jit,
    "aten::matmul": jit_handles.matmul_flop_jit,
    "aten::einsum": jit_handles.einsum_flop_jit,
    "aten::scaled_dot_product_attention": _attention_macs,
    "archsearch::dcnv3": dcnv3_macs_handle,
}

UNCOUNTED_OPERATORS = (
    "aten::add", "aten::sub", "aten::mul", "aten::lerp", "aten::gelu", "aten::sigmoid",
    "aten::softmax", "aten::layer_norm", "aten::batch_norm", "aten::mean", "aten::pixel_shuffle",
    "aten::cartesian_prod", "aten::rsub", "aten::pad", "aten::adaptive_avg_pool2d",
    "aten::_upsample_bicubic2d_aa", "aten::neg", "aten::remainder",
)  # fmt: skip
"""Operators that the convention does not count: elementwise arithmetic, activations, norms, pooling
and rearrangement. fvcore skips some others without a handle."""


class _TraceableConvolutions(TorchFunctionMode):
    """Replaces `conv2d` by `_convolution`, so that a trace on the meta device records it.

    On other devices `conv2d` calls `_convolution`, which the trace records. On meta tensors torch
    skips that call, and fvcore would see no convolution.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is not F.conv2d:
            return func(*args, **(kwargs or {}))
        x, weight, bias, stride, padding, dilation, groups = args
        unused = (False, False, False, False)  # benchmark, deterministic, cudnn, tf32
        return torch._convolution(
            x, weight, bias, stride, padding, dilation, False, (0, 0), groups, *unused
        )
