"""Loading of the native backends: on first use, with one warning if one cannot be used."""

from __future__ import annotations

import shlex
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from cuda_ops import build
from cuda_ops.build import Recipe
from cuda_ops.cache import cache_root
from cuda_ops.toolchain import BuildError

_RECIPES: dict[str, Callable[[], Recipe]] = {"cpu": build.cpu_recipe, "cuda": build.cuda_recipe}
_errors: dict[str, str | None] = {}  # of each backend that was tried; None for a loaded one
_warned: set[str] = set()
_lock = threading.RLock()  # autograd calls from its own threads


@dataclass(frozen=True)
class Backend:
    """Whether a backend is usable and built here; `detail` is its library, or why there is none."""

    usable: bool
    built: bool
    detail: str


def load(device_type: str) -> bool:
    """Whether native kernels for this device type are registered; builds or loads them if needed.

    A failure causes one warning and is not tried again in this process.
    """
    if device_type not in _RECIPES:
        return False
    with _lock:
        error = _try_to_load(device_type)
        if error is not None and device_type not in _warned:
            _warned.add(device_type)
            warnings.warn(
                f"cuda_ops: no native {device_type} backend, the PyTorch one runs instead (slower "
                f"by an order of magnitude). {error}\nAfter fixing the cause, build it with "
                f"`python -m cuda_ops build --backend {device_type}`.",
                RuntimeWarning,
                stacklevel=2,
            )
    return error is None


def require(backend: str) -> None:
    """Raises RuntimeError, with the reason, if a native backend is not usable."""
    with _lock:
        error = _try_to_load(backend)
    if error is not None:
        raise RuntimeError(f"cuda_ops: the native {backend} backend is not usable here. {error}")


def _try_to_load(backend: str) -> str | None:
    """None if the backend is loaded, else why it could not be built or loaded."""
    if backend not in _errors:
        try:
            load_library(_RECIPES[backend]())
            _errors[backend] = None
        except BuildError as error:
            _errors[backend] = str(error)
    return _errors[backend]


def load_library(recipe: Recipe, *, even_if_rebuilt: bool = False) -> Path:
    """Builds and loads a library; builds it again if the one in the cache cannot be loaded.

    That happens once for each library, or each time if `even_if_rebuilt`. Returns its path. Raises
    BuildError if it cannot be built or loaded.
    """
    path = build.build(recipe)
    if _loading_error(path) is not None:
        path = build.rebuild(recipe, path, even_if_rebuilt=even_if_rebuilt)
        if error := _loading_error(path):
            raise BuildError(
                f"{path} was built here and cannot be loaded: {error}. Set CXX to the compiler "
                "that fits this torch, or XDG_CACHE_HOME to a folder in which programs may run"
            )
    return path


def _loading_error(path: Path) -> str | None:
    try:
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]
    except OSError as error:
        return str(error.__cause__ or error)  # torch's own message does not say why
    return None


def backends() -> dict[str, Backend]:
    """The state of every backend: usable or not, built or not, and why. Builds nothing."""
    return {
        "loops": Backend(True, True, "the definition, float64, for tests"),
        "torch": Backend(True, True, "vectorized PyTorch, any device"),
        "cpu": _status("cpu"),
        "cuda": _status("cuda"),
    }


def _status(backend: str) -> Backend:
    if backend == "cuda" and not torch.cuda.is_available():
        return Backend(False, False, "torch sees no CUDA device" + _built_for_others())
    error = _errors.get(backend)
    if error is not None:
        return Backend(False, False, error)
    try:
        recipe = _RECIPES[backend]()
        path = recipe.find_built()
        if path is not None:
            return Backend(True, True, str(path))
        return Backend(
            True,
            False,
            f"not built; the first call builds it with {shlex.join(recipe.find_compiler())}",
        )
    except BuildError as build_error:
        return Backend(False, False, str(build_error))


def _built_for_others() -> str:
    """Names the CUDA libraries in the cache: they can be built on a machine without a GPU."""
    try:
        folders = sorted(path.parent.name for path in cache_root().glob("cuda-*/*.so"))
    except BuildError as error:
        return f"; {error}"
    return f"; built for other machines: {', '.join(folders)}" if folders else ""
