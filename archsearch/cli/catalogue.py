"""The list of the studies: every module of `studies` and `probes` that exports an `About`."""

import importlib
import pkgutil
from dataclasses import asdict

import archsearch.probes
import archsearch.studies
from archsearch.study import About


def catalogue() -> list[dict[str, str]]:
    """Return a row per study: name, question, source in the paper, command, small and full cost."""
    modules = {
        info.name: f"{package.__name__}.{info.name}"
        for package in (archsearch.studies, archsearch.probes)
        for info in pkgutil.iter_modules(package.__path__)
    }
    imported = ((name, importlib.import_module(modules[name])) for name in sorted(modules))
    return [
        {"study": name, **asdict(module.ABOUT)}
        for name, module in imported
        if isinstance(getattr(module, "ABOUT", None), About)
    ]
