"""When the network may compute with a layer's weights without calling the layer."""

from torch import nn
from torch.nn.modules.module import _has_any_global_hook
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def may_bypass(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling ``layer`` does no more than what ``kind`` does with its weight and bias.

    False for an adapter, a quantized or parametrized layer, one with hooks or with a ``forward`` of
    its own, and one whose weight is a tensor of a special kind (quantized, distributed).
    """
    return (
        type(layer) is kind
        and not (
            layer._forward_hooks
            or layer._forward_pre_hooks
            or layer._backward_hooks
            or layer._backward_pre_hooks
        )
        and "forward" not in layer.__dict__
        and not is_traceable_wrapper_subclass(layer.weight)
        and not _has_any_global_hook()  # type: ignore[no-untyped-call]
    )
