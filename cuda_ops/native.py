"""Loading of the native backends: on first use, with one warning if one cannot be used.

The CUDA kernels first check themselves (`self_check.py`). If their numbers are wrong, the
vectorized PyTorch code takes their place in the dispatcher.
"""

from __future__ import annotations

import shlex
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from cuda_ops import build, self_check
from cuda_ops.build import Recipe
from cuda_ops.cache import cache_root
from cuda_ops.check_mode import check_mode
from cuda_ops.reference import vectorized, vectorized_backward
from cuda_ops.toolchain import BuildError

_RECIPES: dict[str, Callable[[], Recipe]] = {"cpu": build.cpu_recipe, "cuda": build.cuda_recipe}
_errors: dict[str, str | None] = {}  # of each backend that was tried; None for a loaded one
_warned: set[str] = set()
_replacements: list[torch.library.Library] = []  # of kernels whose numbers are wrong
_lock = threading.RLock()  # autograd calls from its own threads


@dataclass(frozen=True)
class Backend:
    """Whether a backend is usable and built here; `detail` is its library, or why there is none."""

    usable: bool
    built: bool
    detail: str


def load(device: torch.device) -> bool:
    """Whether native kernels for this type of device are registered; loads them if needed.

    They are built if the cache does not have them. A failure causes one warning and is not
    tried again in this process.

    Raises:
        ValueError: ARCHSEARCH_CUDA_CHECK has a wrong value.
    """
    backend = device.type
    if backend not in _RECIPES:
        return False
    with _lock:
        error = _try_to_load(backend, device)
        if error is not None and backend not in _warned:
            _warned.add(backend)
            warnings.warn(
                f"cuda_ops: no native {backend} backend, the PyTorch one runs instead (slower "
                f"by an order of magnitude). {error}",
                RuntimeWarning,
                stacklevel=2,
            )
    return error is None


def require(backend: str, device: torch.device) -> None:
    """Raises RuntimeError, with the reason, if a native backend is not usable."""
    with _lock:
        error = _try_to_load(backend, device)
    if error is not None:
        raise RuntimeError(f"cuda_ops: the native {backend} backend is not usable here. {error}")


def _try_to_load(backend: str, device: torch.device) -> str | None:
    """None if the backend is loaded, else why it could not be built or loaded, or is wrong."""
    if backend not in _errors:
        if backend == "cuda":
            check_mode()  # before a build that takes minutes
        try:
            library = load_library(_RECIPES[backend]())
            _errors[backend] = _first_run_error(backend, library, device)
        except BuildError as error:
            _errors[backend] = (
                f"{error}\nAfter fixing the cause, build it with "
                f"`python -m cuda_ops build --backend {backend}`."
            )
    return _errors[backend]


def _first_run_error(backend: str, library: Path, device: torch.device) -> str | None:
    error = self_check.first_run_error(library, device) if backend == "cuda" else None
    if error is not None:
        _replace_kernels(device)
    return error


def _replace_kernels(device: torch.device) -> None:
    """Registers the vectorized code for this type of device: it is newer than the library's."""
    library = torch.library.Library("archsearch", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators")
        for name, kernel in (("dcnv3", vectorized), ("dcnv3_backward", vectorized_backward)):
            library.impl(name, kernel, device.type.upper(), allow_override=True)  # type: ignore[no-untyped-call]
    _replacements.append(library)


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
            wrong = _stored_error(backend, path)
            return Backend(wrong is None, True, wrong or str(path))
        return Backend(
            True,
            False,
            f"not built; the first call builds it with {shlex.join(recipe.find_compiler())}",
        )
    except BuildError as build_error:
        return Backend(False, False, str(build_error))


def _stored_error(backend: str, library: Path) -> str | None:
    """The error of an earlier self-check that failed on one of the visible GPUs."""
    if backend != "cuda" or check_mode() == "off":
        return None
    results = (self_check.stored_result(library, gpu) for gpu in self_check.gpus())
    wrong = (self_check.error_of(result) for result in results if result and result.differences)
    return next(wrong, None)


def _built_for_others() -> str:
    """Names the CUDA libraries in the cache: they can be built on a machine without a GPU."""
    try:
        folders = sorted(path.parent.name for path in cache_root().glob("cuda-*/*.so"))
    except BuildError as error:
        return f"; {error}"
    return f"; built for other machines: {', '.join(folders)}" if folders else ""
