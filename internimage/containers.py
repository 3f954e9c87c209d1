"""The networks in a checkpoint, which may hold several in containers of any names.

A container's name becomes a prefix, as of the names of a wrapped network: ``state_dict`` with
``module.levels.0...`` is ``state_dict.module.levels.0...``.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from internimage.weights import printable

FIRST = "levels.0.blocks.0.dcn.input_proj.weight"
"""Every InternImage has a tensor of this name."""

AVERAGED = re.compile(r"(^|[._])(ema|teacher)([._]|$)", re.IGNORECASE)
"""What the prefix of averaged weights contains."""

MAX_DEPTH = 4
"""Containers inside each other that are looked into."""

MAX_NAMES = 8
"""Names that a message lists; it counts the rest."""

log = logging.getLogger("internimage")


def flattened(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """All tensors by name, with the names of their containers before, without torch.compile's."""
    return {key.replace("_orig_mod.", ""): value for key, value in _tensors(content, MAX_DEPTH)}


def _tensors(content: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, Tensor]]:
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield str(key), value
        elif isinstance(value, dict) and depth:
            yield from ((f"{key}.{name}", tensor) for name, tensor in _tensors(value, depth - 1))


def chosen_prefix(tensors: Mapping[str, Tensor], ema: bool, source: Path) -> str:
    """The prefix of the first network, or of the first that is averaged if ``ema``.

    Without ``ema``, averaged weights are taken only if there are no others. The log says what is
    taken if there is a choice, or if other tensors are left.

    Raises:
        ValueError: ``ema``, and the file has no averaged weights.
    """
    prefixes = [key.removesuffix(FIRST) for key in tensors if _ends_with_first(key)]
    averaged = [prefix for prefix in prefixes if AVERAGED.search(prefix)]
    if ema and not averaged:
        raise ValueError(
            f"{source} has no averaged weights of an InternImage: leave out ema; it holds "
            f"{contents(tensors)}"
        )
    preferred = averaged if ema else [p for p in prefixes if p not in averaged]
    prefix = next(iter(preferred or prefixes), "")
    left = [key for key in tensors if not key.startswith(prefix)]
    if prefixes and left:
        name = prefix.rstrip(".") or "the weights at the top"
        log.warning("%s: took %s of %s", source, printable(name), contents(tensors))
    return prefix


def _ends_with_first(key: str) -> bool:
    return key == FIRST or key.endswith(f".{FIRST}")


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def contents(tensors: Mapping[str, Tensor]) -> str:
    """What a file holds: the beginnings of its names, each with its number of tensors."""
    counts = Counter(".".join(key.split(".")[:2]) for key in tensors)
    parts = [f"{printable(name)} ({n})" for name, n in list(counts.items())[:MAX_NAMES]]
    if len(counts) > MAX_NAMES:
        parts.append(f"and {len(counts) - MAX_NAMES} more names")
    return f"{len(tensors)} tensors: {', '.join(parts)}" if parts else "no tensors"
