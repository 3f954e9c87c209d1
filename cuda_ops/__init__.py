"""DCNv3, the operator of InternImage: one public function over native and PyTorch kernels.

>>> from cuda_ops import dcnv3
>>> y = dcnv3(x, offset, mask, groups=4)

Torch is imported with the first name that needs it, so `dcnv3_macs` can be had without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cuda_ops.geometry import Window, dcnv3_macs

if TYPE_CHECKING:
    from cuda_ops.native import Backend, backends
    from cuda_ops.ops import dcnv3, dcnv3_macs_handle

__all__ = ["Backend", "Window", "backends", "dcnv3", "dcnv3_macs", "dcnv3_macs_handle"]


def __getattr__(name: str) -> Any:
    if name in ("Backend", "backends"):
        from cuda_ops import native

        return getattr(native, name)
    if name in ("dcnv3", "dcnv3_macs_handle"):
        from cuda_ops import ops

        return getattr(ops, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
