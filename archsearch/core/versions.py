"""What a result was made with: packages, and the commit of this code."""

import subprocess
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from platform import python_version

PACKAGES = ("archsearch", "torch", "numpy", "kornia", "optuna", "ray")


def versions() -> dict[str, str]:
    """Versions of Python and of every installed package that takes part, and the commit.

    Packages that are absent are left out. Imports none of them.
    """
    found = {"python": python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found | ({"commit": known} if (known := commit()) else {})


@cache
def commit() -> str | None:
    """The commit that this code is, with ``+`` after changes; None outside a checkout of it."""
    try:
        # An installed copy may lie inside somebody else's checkout, which must not answer.
        if _git("ls-files", Path(__file__).name) != Path(__file__).name:
            return None
        return _git("describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*") or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip()
