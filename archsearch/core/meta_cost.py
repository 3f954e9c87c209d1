"""Count the cost of a network that has no closed form, by one forward pass on the meta device.

Multiply-adds come from torch's registered FLOP formulas; custom operators can register theirs. An
operator without a formula counts as zero, as norms and activations do by convention.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from archsearch.core.cost import Cost, image_size


def count_module(build: Callable[[], nn.Module], height: int, width: int) -> Cost:
    """Parameters, multiply-adds and activations of a network for one image of three channels."""
    with torch.device("meta"):
        model = build().eval()
        image = torch.empty(1, 3, height, width)
    counter = _Counter()
    with torch.no_grad(), counter, _WholeAttention(counter):
        model(image)
    params = sum(p.numel() for p in model.parameters())
    return Cost(params, counter.macs, counter.activations, image_size(height, width))


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the multiply-adds and the output elements of every operator that has a formula."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = self.activations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        del types
        output = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            flops = formula(*args, **(kwargs or {}), out_val=output)
            assert flops % 2 == 0, f"{func} counts {flops} FLOPs: a multiply-add is two"
            self.macs += flops // 2
            first = output if isinstance(output, Tensor) else output[0]
            self.activations += first.numel()
        return output


class _WholeAttention(TorchFunctionMode):
    """Counts the output of attention as its activations, as fast kernels compute it.

    On the meta device torch splits attention into its two products, and the first has an output for
    every pair of tokens.
    """

    def __init__(self, counter: _Counter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        del types
        before = self._counter.activations
        output = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            self._counter.activations = before + output.numel()
        return output
