"""Versions that a result depends on: packages, and the commit of this code."""

import subprocess
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from platform import python_version

PACKAGES = ("archsearch", "torch", "numpy", "optuna", "ray")


def versions() -> dict[str, str]:
    """Versions of Python and of the installed `PACKAGES`, and the commit. Imports none of them."""
    numbers = {"python": python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            numbers[name] = metadata.version(name)
    return numbers | ({"commit": current} if (current := commit()) else {})


@cache
def commit() -> str | None:
    """The commit of this code, with ``+`` if it has changes; None outside a checkout of it."""
    try:
        # An installed copy may be inside the checkout of another project: ignore its commit.
        if _git("ls-files", Path(__file__).name) != Path(__file__).name:
            return None
        return _git("describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*") or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    process = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return process.stdout.strip()
