"""The command that resumes a run from where it lies now, for messages."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

SEVERAL_RUNS = (["study", "data-scale"], ["-m", "archsearch.benchmarks.evidence"])
"""The commands that write several runs; their --out is the folder that holds them."""


def resume_command(command: Sequence[str], path: Path) -> str:
    """Return the stored command of the run in ``path`` with that folder as ``--out``.

    A run may be moved, copied or received: its own --out, or the default, may be another run by
    now. A run from a Python call gets that call.
    """
    if not command:
        return "the same command"
    if list(command[1:]) == ["run"]:
        return f"archsearch.run(study, out={str(path)!r})"
    folder = path.absolute().parent if list(command[1:3]) in SEVERAL_RUNS else path
    text = str(folder)
    out = f"./{text}" if text.startswith("-") else text
    return shlex.join([*_without_out(command), "--out", out])


def _without_out(command: Iterable[str]) -> list[str]:
    """Return the command without ``--out FOLDER`` and ``--out=FOLDER``."""
    parts = list[str]()
    iterator = iter(command)
    for part in iterator:
        if part == "--out":
            next(iterator, None)
        elif not part.startswith("--out="):
            parts.append(part)
    return parts
