"""Count the multiply-adds of a forward pass, operator by operator.

They come from torch's registered FLOP formulas; a user's operator can register its own
(`torch.utils.flop_counter.register_flop_formula`). By convention norms, activations, pooling and
softmax count as zero. Another operator without a formula that holds arithmetic is named in a note.
"""

from collections import Counter
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

CONVENTION = ("norm", "softmax", "pool", "upsample", "embedding", "prelu")
"""Parts of the names of torch's operators that count as zero by convention."""

MOVES = ("cat", "stack", "where", "copy", "index", "scatter", "fill", "select", "slice")
"""Parts of the names of torch's operators that only move values."""

OF_ONE_TENSOR = ("fft", "linalg", "matrix")
"""Parts of the names of torch's operators that hold multiply-adds of a single tensor."""

MEMO_ENTRIES = 20_000
"""About 20 MB of the shapes that operators returned."""

_memo: dict[Any, Any] = {}


class OperatorCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up multiply-adds, and the output elements of every operator that has a formula.

    ``layers`` has (multiply-adds, output elements, calls) of these operators by name; a grouped
    convolution has a name of its own. On the meta device the shapes that an operator returns for
    given shapes are remembered, because networks repeat their blocks and torch derives such shapes
    in Python.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.activations = self._flops = 0
        self.layers: dict[str, tuple[int, int, int]] = {}
        self._odd: Counter[str] = Counter()
        self._zero: Counter[str] = Counter()

    @property
    def macs(self) -> int:
        """Multiply-adds, of which each is two FLOPs; half of one is rounded up."""
        return (self._flops + 1) // 2

    @property
    def is_complete(self) -> bool:
        """Whether every operator with arithmetic had a formula."""
        return not self._zero

    def notes(self) -> tuple[str, ...]:
        """A sentence for every operator that was counted in doubt."""
        zero = (
            f"the operator {name} ({_times(num)}) has no FLOP formula and counts as zero "
            "multiply-adds: give it one with torch.utils.flop_counter.register_flop_formula"
            for name, num in self._zero.items()
        )
        odd = (
            f"the FLOP formula of {name} gives an odd number ({_times(num)}), but a multiply-add "
            "is two FLOPs: the multiply-adds are half of all FLOPs, rounded up"
            for name, num in self._odd.items()
        )
        return (*zero, *odd)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        del types
        key = _key(func, args, kwargs)
        known = None if key is None else _memo.get(key)
        if known is None:
            output = func(*args, **(kwargs or {}))
            flops = _flops(func, args, kwargs or {}, output)
            if key is not None:
                _remember(key, flops, output)
        else:
            flops, output = known[0], known[1]()
        if flops is None:
            self._note_arithmetic(func, (*args, *(kwargs or {}).values()), output)
        else:
            self._add(func, args, flops, output)
        return output

    def _note_arithmetic(self, func: Any, inputs: Any, output: Any) -> None:
        least = _least_inputs(func)
        if least and _num_floating(inputs) >= least and _num_floating((output,)):
            self._zero[_name(func)] += 1

    def _add(self, func: Any, args: Any, flops: int, output: Any) -> None:
        self._flops += flops
        self._odd.update([_name(func)] * (flops % 2))
        first = output if isinstance(output, Tensor) else output[0]
        self.activations += first.numel()
        name = _layer_name(func, args)
        macs, elements, calls = self.layers.get(name, (0, 0, 0))
        self.layers[name] = macs + flops // 2, elements + first.numel(), calls + 1


class WholeAttention(TorchFunctionMode):
    """Counts the output of attention as its activations, as fast kernels compute it.

    Where torch splits attention into its two products, the first has an output for every pair of
    tokens.
    """

    def __init__(self, counter: OperatorCounter) -> None:
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


def _times(num: int) -> str:
    return "once" if num == 1 else f"{num} times"


def _name(func: Any) -> str:
    return str(getattr(func, "_overloadpacket", func)).replace(".", "::", 1)


def _layer_name(func: Any, args: Any) -> str:
    """The operator, and whether it is a grouped convolution (the groups are its last argument)."""
    grouped = func is torch.ops.aten.convolution.default and args[8] > 1
    return f"{_name(func)}{' grouped' if grouped else ''}"


def _flops(func: Any, args: Any, kwargs: Any, output: Any) -> int | None:
    """The FLOPs by the operator's formula; None without one."""
    formula = flop_registry.get(getattr(func, "_overloadpacket", func))
    return None if formula is None else int(formula(*args, **kwargs, out_val=output))


@cache
def _least_inputs(func: Any) -> int | None:
    """An operator without a formula that has so many floating inputs is taken to hold arithmetic;
    None for one that has none, by its kind and its name."""
    if torch.Tag.pointwise in getattr(func, "tags", ()):
        return None
    space, _, name = _name(func).partition("::")
    if space not in ("aten", "prims", "prim"):
        return 1
    if any(part in name for part in (*CONVENTION, *MOVES)):
        return None
    return 1 if any(part in name for part in OF_ONE_TENSOR) else 2


def _num_floating(inputs: Any) -> int:
    """How many of these are floating tensors, those of lists included."""
    lists = (value if isinstance(value, list | tuple) else [value] for value in inputs)
    tensors = (value for values in lists for value in values if isinstance(value, Tensor))
    return sum(t.is_floating_point() or t.is_complex() for t in tensors)


def _key(func: Any, args: Any, kwargs: Any) -> Any:
    """What the shapes of the output depend on; None if that is not known."""
    if not _makes_new_tensors(func):
        return None
    try:
        return func, _describe(args), _describe(sorted((kwargs or {}).items()))
    except TypeError:
        return None


@cache
def _makes_new_tensors(func: Any) -> bool:
    """Whether the outputs share no memory with the inputs, and no input is changed."""
    schema = getattr(func, "_schema", None)
    if schema is None or schema.is_mutable:
        return False
    return all(value.alias_info is None for value in schema.returns)


_PLAIN = (type(None), bool, int, float, str, torch.dtype, torch.device, torch.layout,
          torch.memory_format)  # fmt: skip


def _describe(value: Any) -> Any:
    """A hashable description of an argument: of a tensor its shape, strides and type.

    Raises:
        TypeError: it is not known whether the output depends on more.
    """
    if isinstance(value, list | tuple):
        return tuple(map(_describe, value))
    if type(value) in (Tensor, nn.Parameter, nn.Buffer) and value.is_meta:
        return value.shape, value.stride(), value.dtype, value.requires_grad
    if isinstance(value, _PLAIN):
        return type(value), value
    raise TypeError(f"no description of {type(value).__name__}")


def _remember(key: Any, flops: int | None, output: Any) -> None:
    """Remember what an operator returns, if it is one new tensor or several."""
    outputs = (output,) if isinstance(output, Tensor) else output
    if not isinstance(outputs, tuple) or not all(type(o) is Tensor for o in outputs):
        return
    if len(_memo) >= MEMO_ENTRIES:
        _memo.clear()
    shapes = [(o.size(), o.stride(), o.dtype) for o in outputs]
    is_one = isinstance(output, Tensor)

    def again() -> Any:
        tensors = [torch.empty_strided(*s[:2], dtype=s[2], device="meta") for s in shapes]
        return tensors[0] if is_one else tuple(tensors)

    _memo[key] = flops, again
