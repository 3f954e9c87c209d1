"""Which native backends run here: loaded on first use, and if not, why not, said once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from cuda_ops import build
from cuda_ops.build import Recipe
from cuda_ops.toolchain import BuildError

_RECIPES: dict[str, Callable[[], Recipe]] = {"cpu": build.cpu_recipe, "cuda": build.cuda_recipe}
_refusals: dict[str, str | None] = {}  # per backend that was tried: None, or why it is not usable
_warned: set[str] = set()
_guard = threading.RLock()  # autograd calls from threads of its own


@dataclass(frozen=True)
class Backend:
    """Whether a backend can compute here, whether it is built, and the reason or its place."""

    usable: bool
    built: bool
    detail: str


def load(device_type: str) -> bool:
    """Whether native kernels for this kind of device are registered, after trying to have them.

    The first failure is told in one warning, and never tried again in this process.
    """
    if device_type not in _RECIPES:
        return False
    with _guard:
        refusal = _refusal(device_type)
        if refusal is not None and device_type not in _warned:
            _warned.add(device_type)
            warnings.warn(
                f"cuda_ops: no native {device_type} backend, the PyTorch one runs instead (slower "
                f"by an order of magnitude). {refusal}\nAfter mending that, "
                f"`python -m cuda_ops build --backend {device_type}` builds it.",
                RuntimeWarning,
                stacklevel=2,
            )
    return refusal is None


def require(backend: str) -> None:
    """Raises RuntimeError, with the reason, where a native backend is not usable."""
    with _guard:
        refusal = _refusal(backend)
    if refusal is not None:
        raise RuntimeError(f"cuda_ops: the native {backend} backend is not usable here. {refusal}")


def _refusal(backend: str) -> str | None:
    if backend not in _refusals:
        try:
            torch.ops.load_library(build.build(_RECIPES[backend]()))  # type: ignore[no-untyped-call]
            _refusals[backend] = None
        except (BuildError, OSError) as error:
            _refusals[backend] = str(error)
    return _refusals[backend]


def backends() -> dict[str, Backend]:
    """Every backend with whether it is usable and built, and if not, why. Builds nothing."""
    return {
        "loops": Backend(True, True, "the definition, float64, for tests"),
        "torch": Backend(True, True, "vectorised PyTorch, any device"),
        "cpu": _status("cpu"),
        "cuda": _status("cuda"),
    }


def _status(backend: str) -> Backend:
    if backend == "cuda" and not torch.cuda.is_available():
        return Backend(False, False, "torch sees no CUDA device" + _built_anyway())
    refusal = _refusals.get(backend)
    if refusal is not None:
        return Backend(False, False, refusal)
    try:
        recipe = _RECIPES[backend]()
        path = recipe.find_built()
        if path is not None:
            return Backend(True, True, str(path))
        return Backend(True, False, f"not built; the first call builds it with {recipe.compiler}")
    except BuildError as error:
        return Backend(False, False, str(error))


def _built_anyway() -> str:
    """Libraries for named architectures can be built where there is no GPU."""
    folders = sorted(path.parent.name for path in build.cache_root().glob("cuda-*/*.so"))
    return f"; built for other machines: {', '.join(folders)}" if folders else ""
