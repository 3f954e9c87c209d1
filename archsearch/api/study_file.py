"""A study that a user wrote in a file of Python."""

import sys
from dataclasses import replace
from pathlib import Path

from archsearch.study import Study


def load_study(file: Path) -> Study:
    """Return the Study that a file exports as ``study`` (a value, or a function of no arguments).

    Raises:
        ValueError: if the file does not exist or exports no study, or one that chooses by the test
            split.
    """
    import runpy

    if not file.is_file():
        raise ValueError(f"{file} is not a file")
    sys.path.insert(0, str(file.absolute().parent))  # as Python does for a script
    value = runpy.run_path(str(file)).get("study")
    study = value() if callable(value) else value
    if not isinstance(study, Study):
        raise ValueError(
            f"{file} must export `study`, a Study or a function that returns one; it has "
            f"{type(value).__name__}"
        )
    study.check_metrics()
    return replace(study, name=study.name or file.stem)
