"""Check the closed form of `archsearch.families.internimage_cost` against the built module.

Three counts that know nothing of the closed form: the built module's own parameters, fvcore on its
traced graph, and torch's `FlopCounterMode`. All run on the meta device, so that H at 640 x 640
takes seconds and no memory. An operator that fvcore has no handle for is a difference here, where
fvcore gives a warning and counts nothing.
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
    warnings.simplefilter("ignore", FutureWarning)  # what newer ones call it
    from fvcore.nn import FlopCountAnalysis, jit_handles, parameter_count

Handle = Callable[[list[Any], list[Any]], Any]


@dataclass(frozen=True)
class Counted:
    """What one method found; None where it does not count that."""

    method: str
    params: int | None = None
    macs: int | None = None
    activations: int | None = None


@dataclass(frozen=True)
class Verification:
    """The closed form, the independent counts, and operators that fvcore could not count."""

    closed_form: Cost
    counts: tuple[Counted, ...]
    uncounted: tuple[str, ...] = ()

    def differences(self) -> list[str]:
        """Every disagreement in words; empty when all agree to the integer."""
        found = [
            f"{name}: closed form {expected:,}, {counted.method} {got:,} ({got - expected:+,})"
            for name in ("params", "macs", "activations")
            for counted in self.counts
            if (got := getattr(counted, name)) is not None
            and got != (expected := getattr(self.closed_form, name))
        ]
        return found + [f"fvcore has no handle for {operator}" for operator in self.uncounted]


def verify(config: ModelConfig, image_size: int = 224) -> list[str]:
    """Every difference between the closed form and the built module, in words; empty for none.

    Raises:
        ValueError: when ``image_size`` is less than 1.
    """
    return measure(config, image_size).differences()


def measure(config: ModelConfig, image_size: int = 224) -> Verification:
    """Build ``config`` without memory and count it three more times, for one square image.

    Raises:
        ValueError: when ``image_size`` is less than 1.
    """
    closed_form = count(config, image_size)
    with torch.device("meta"):
        model = InternImage(config).eval()
        image = torch.empty(1, 3, image_size, image_size)
    with torch.no_grad():
        by_fvcore, uncounted = count_module(model, image)
        counts = (_by_module(model), by_fvcore, _by_flop_counter(model, image))
    return Verification(closed_form, counts, uncounted)


def _by_module(model: nn.Module) -> Counted:
    return Counted("module", params=sum(p.numel() for p in model.parameters()))


def _by_flop_counter(model: nn.Module, image: torch.Tensor) -> Counted:
    """torch counts a multiply-add as two; operators it does not know it passes over in silence."""
    with FlopCounterMode(display=False) as counter:
        model(image)
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return Counted("FlopCounterMode", macs=flops // 2)


def count_module(model: nn.Module, image: torch.Tensor) -> tuple[Counted, tuple[str, ...]]:
    """Any network counted by fvcore in our convention, and the operators it has no handle for."""
    analysis = FlopCountAnalysis(model, image).clear_op_handles()
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    for operator, macs in _HANDLES.items():
        analysis.set_op_handle(operator, _with_activations(macs))
    for operator in FREE:
        analysis.set_op_handle(operator, None)
    with _TraceableConvolutions():
        totals = analysis.by_operator()
    uncounted = tuple(f"{name} ({n} times)" for name, n in analysis.unsupported_ops().items())
    params = parameter_count(model)[""]
    return Counted("fvcore", params, totals["macs"], totals["activations"]), uncounted


def _with_activations(macs: Handle) -> Handle:
    """One handle for both figures, so that the model is traced once."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        counted = macs(inputs, outputs)
        total = sum(counted.values()) if isinstance(counted, Counter) else counted
        return Counter(macs=total, activations=prod(outputs[0].type().sizes()))

    return handle


def _attention_macs(inputs: list[Any], _outputs: list[Any]) -> int:
    """`scaled_dot_product_attention`: queries times keys, then weights times values."""
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

FREE = (
    "aten::add", "aten::sub", "aten::mul", "aten::lerp", "aten::gelu", "aten::sigmoid",
    "aten::softmax", "aten::layer_norm", "aten::batch_norm", "aten::mean", "aten::pixel_shuffle",
    "aten::cartesian_prod", "aten::rsub", "aten::pad", "aten::adaptive_avg_pool2d",
)  # fmt: skip
"""What the convention leaves uncounted: elementwise arithmetic, activations, norms, pooling, and
rearrangement beyond what fvcore passes over by itself."""


class _TraceableConvolutions(TorchFunctionMode):
    """Calls the convolution by the name under which a trace records it on the meta device.

    A trace of `conv2d` records `_convolution`, one level down; on meta tensors torch does not pass
    through that level, and fvcore would see no convolution at all.
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
