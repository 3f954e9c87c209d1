"""DCNv3, the operator of InternImage: one public function over native and PyTorch kernels.

>>> from cuda_ops import dcnv3
>>> y = dcnv3(x, offset, mask, groups=4)

`ConvArgs` and `dcnv3_macs` need no torch; the other names import it when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cuda_ops.geometry import ConvArgs, dcnv3_macs

if TYPE_CHECKING:
    from cuda_ops.native import Backend, backends
    from cuda_ops.ops import dcnv3, dcnv3_macs_handle

__all__ = ["Backend", "ConvArgs", "backends", "dcnv3", "dcnv3_macs", "dcnv3_macs_handle"]


def __getattr__(name: str) -> Any:
    if name in ("Backend", "backends"):
        from cuda_ops import native

        return getattr(native, name)
    if name in ("dcnv3", "dcnv3_macs_handle"):
        from cuda_ops import ops

        return getattr(ops, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
