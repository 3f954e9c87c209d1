"""A run without its weights: all that its report is made of, small enough to publish.

What is copied is what `archsearch.results` reads, failures and their history included; checkpoints,
logs and locks stay behind. The copy is a run: it can be reported, verified, compared and extended.
"""

import shutil
from pathlib import Path

from archsearch.storage.study_folder import StudyFolder

OF_STUDY = ("study.json", "quote.json")
OF_TRIAL = ("spec.json", "record.json", "record.failed-*.json", "attempts*.jsonl")
WHILE_UNFINISHED = ("events.jsonl",)
"""A record holds its training's curve; until there is one, the events are all there is."""


def publish(run: Path, place: Path) -> int:
    """Copy the run's study, specs and records to ``place``; again, to bring the copy up to date.

    Returns:
        How many trials were copied.

    Raises:
        ValueError: ``run`` holds no study, or ``place`` holds anything but an earlier copy of it.
    """
    source = StudyFolder(run).open()
    _check_place(source, place)
    for name in OF_STUDY:
        _copy(source.path / name, place)
    launched = source.launched()
    for trial_id in launched:
        trial = source.trial(trial_id)
        wanted = OF_TRIAL if trial.record() else OF_TRIAL + WHILE_UNFINISHED
        for path in (p for pattern in wanted for p in trial.path.glob(pattern)):
            _copy(path, place / "trials" / trial_id)
    return len(launched)


def _check_place(source: StudyFolder, place: Path) -> None:
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    same = (place / "study.json").exists() and _began(StudyFolder(place)) == _began(source)
    if not same or place.resolve() == source.path.resolve():
        raise ValueError(f"{place} is not empty and no copy of {source.path}: choose another place")


def _began(folder: StudyFolder) -> tuple[object, object]:
    """What tells one run from another of the same study."""
    request = folder.request()
    return request.get("created"), request.get("name")


def _copy(path: Path, place: Path) -> None:
    if path.exists():
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place / path.name)
