"""The list of the studies: every file in `studies/` that says what it is about."""

import importlib
import pkgutil
from dataclasses import asdict

from archsearch.study import About


def catalogue() -> list[dict[str, str]]:
    """A row per study: name, question, source in the paper, command, cost small and full."""
    import studies

    names = sorted(module.name for module in pkgutil.iter_modules(studies.__path__))
    found = ((name, importlib.import_module(f"studies.{name}")) for name in names)
    return [
        {"study": name, **asdict(module.ABOUT)}
        for name, module in found
        if isinstance(getattr(module, "ABOUT", None), About)
    ]
