"""The command that resumes a run from where it lies now, for messages."""

import shlex
from collections.abc import Collection, Sequence
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
    return shlex.join([*without(command, ("--out",)), "--out", out])


def without(
    command: Sequence[str], with_value: Collection[str], switches: Collection[str] = ()
) -> list[str]:
    """Return a command without these options, written as ``--name value`` or ``--name=value``."""
    kept, rest = list[str](), iter(command)
    for part in rest:
        name = part.partition("=")[0]
        if name not in with_value and name not in switches:
            kept.append(part)
        elif name in with_value and "=" not in part:
            next(rest, None)
    return kept
