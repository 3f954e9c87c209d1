"""The command that resumes a run from where it lies now, for messages."""

import glob
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from archsearch.core.plans import LATENCIES, PILOTS, STEP_TIMES
from archsearch.storage.family_sources import FOLDER

SEVERAL_RUNS = (["study", "data-scale"], ["-m", "archsearch.benchmarks.evidence"])
"""The commands that write several runs; their --out is the folder that holds them."""


def resume_command(command: Sequence[str], path: Path) -> str:
    """Return the stored command of the run in ``path`` with that folder as ``--out``.

    A run may be moved, copied or received: its own --out, or the default, may be another run by
    now. A family whose file is not here is named by the run's copy. A run from a Python call gets
    that call.
    """
    if not command:
        return "the same command"
    if list(command[1:]) == ["run"]:
        return f"archsearch.run(study, out={str(path)!r})"
    is_pilot = list(command[1:2]) == ["compare"] and path.name in (STEP_TIMES, *PILOTS)
    is_inner = is_pilot or path.name == LATENCIES or list(command[1:3]) in SEVERAL_RUNS
    folder = path.absolute().parent if is_inner else path
    text = str(folder)
    out = f"./{text}" if text.startswith("-") else text
    parts = [_present_family(part, path) for part in without(command, ("--out",))]
    return shlex.join([*parts, "--out", out])


def _present_family(part: str, run: Path) -> str:
    """A part of a command; a family's file that is not here becomes the run's only copy of it."""
    option = "--family=" if part.startswith("--family=") else ""
    file, _, name = part.removeprefix(option).rpartition(":")
    if not file.endswith(".py") or Path(file).is_file():
        return part
    copies = list((run / FOLDER).glob(f"{glob.escape(Path(file).stem)}-*.py"))
    return f"{option}{copies[0]}:{name}" if len(copies) == 1 else part


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
