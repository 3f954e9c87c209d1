"""What a training's result depends on besides its trial: the software of this machine.

Ray sends these functions to its nodes by value, because a node may hold another version of this
module: it imports nothing but the standard library at its top, and runs on any version.
"""

import hashlib
import importlib.util
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("archsearch", "torch", "numpy", "pillow", "scikit-learn")
"""The packages that compute: they read the images, augment them, and train."""

SOURCES = (".py", ".h", ".cpp", ".cu", ".cuh")
NOT_TRAINING = ("reports", "studies", "results", "__pycache__")
"""Folders without an effect on a training; an installed copy has two that a checkout links."""

MISSING = "missing"


def software(modules: Sequence[str] = ()) -> dict[str, str]:
    """Each thing that may change a training's result, and its version on this machine.

    ``modules`` are a user's own, such as that of a family; each counts by its file.
    The operator counts by its sources and not by its library, which is compiled for the processor:
    nodes of different processors belong to one cluster, and a record names its device.
    """
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "python": platform.python_version(),
        **versions,
        "numerics": _numerics(),
        "code": _digest("archsearch", "internimage"),
        "operator": _digest("cuda_ops"),
        "job": _job(),
        **{f"module {name}": _file_digest(name) for name in modules},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return MISSING


def _numerics() -> str:
    try:
        from archsearch.study import NUMERICS, SCHEMA
    except ImportError:
        return MISSING
    return f"{NUMERICS} (layout {SCHEMA})"


def _job() -> str:
    """What a runner can send to this machine's code: a difference here can never be allowed."""
    try:
        from archsearch.running.work import Job
    except ImportError:
        return MISSING
    return ", ".join(field.name for field in fields(Job))


def _digest(*packages: str) -> str:
    """A hash of the sources of ``packages`` and of their names in them."""
    sha = hashlib.sha256()
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            return MISSING
        root = Path(spec.submodule_search_locations[0])
        for path in sorted(_sources(root), key=lambda path: path.relative_to(root).as_posix()):
            name = f"{package}/{path.relative_to(root).as_posix()}"
            sha.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()[:12]


def _file_digest(module: str) -> str:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # its package is missing, or it is no file
        return MISSING
    if spec is None or spec.origin is None:
        return MISSING
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:12]


def _sources(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in NOT_TRAINING]
        yield from (Path(folder, name) for name in names if Path(name).suffix in SOURCES)


def differences(node: Mapping[str, str], driver: Mapping[str, str]) -> dict[str, str]:
    """How a node differs from the driver: name -> ``torch 2.12.0 (here 2.13.0)``."""
    names = dict.fromkeys((*driver, *node))
    return {
        name: f"{name} {node.get(name, MISSING)} (here {driver.get(name, MISSING)})"
        for name in names
        if node.get(name) != driver.get(name)
    }


@dataclass(frozen=True)
class Answer:
    """What a node answers to a probe: see `probe`."""

    content: str
    protected: bool
    software: Mapping[str, str]


def probe(path: str, modules: Sequence[str]) -> dict[str, Any]:
    """The fields of an `Answer`: what this node reads at ``path``, whether its Ray needs a token,
    and its `software` with the ``modules``."""
    try:
        content = Path(path).read_text()
    except OSError as error:
        content = f"{type(error).__name__}: {error.strerror}"
    protected = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    return {"content": content, "protected": protected, "software": software(modules)}


def judge(
    answer: Answer, probe_file: Path, here: Mapping[str, str], allow_mixed: bool
) -> tuple[list[str], tuple[str, ...]]:
    """Why a node may not train, and its differences from ``here``, the software of this machine."""
    different, problems = differences(answer.software, here), []
    if answer.content != probe_file.name:
        problems.append(f"it does not see the folder {probe_file.parent} ({answer.content})")
    refused = [text for name, text in different.items() if not allow_mixed or name == "job"]
    if refused:
        problems.append(f"it differs from this machine: {', '.join(refused)}")
    return problems, tuple(different.values())
