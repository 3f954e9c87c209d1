"""Which native backends run here."""

from __future__ import annotations


def load(device_type: str) -> bool:
    """Whether the native kernels for this kind of device are registered."""
    return False


def require(backend: str) -> None:
    """Raises RuntimeError where a native backend is not usable."""
    raise RuntimeError(f"the native {backend} backend is not built")
