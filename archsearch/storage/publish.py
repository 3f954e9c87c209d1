"""Copy a run without its weights: all that reports need, small enough to publish.

The copy has the files that `archsearch.results` reads, including failures and their history, but
no checkpoints, logs or locks. The studies inside a run are copied with it. It is a run itself: it
can be reported, verified, compared and extended.
"""

from collections.abc import Iterable
from pathlib import Path

from archsearch.storage.family_sources import FOLDER as SOURCES
from archsearch.storage.files import write_bytes
from archsearch.storage.pilots import inner_folders
from archsearch.storage.plain_file import Damaged, read_plain, refuse_link
from archsearch.storage.stored_json import warn_once
from archsearch.storage.study_folder import StudyFolder
from archsearch.storage.trial_folder import PREDICTIONS

STUDY_FILES = ("study.json", "quote.json")
TRIAL_FILES = (
    "spec.json", "record.json", "record.failed-*.json", "attempts*.jsonl", PREDICTIONS,
)  # fmt: skip
UNFINISHED_TRIAL_FILES = (*TRIAL_FILES, "events.jsonl")
"""A record holds the curve of its training; without a record, only the events do."""


def publish(run: Path, target: Path) -> int:
    """Copy the run's study, specs and records to ``target``, or update an earlier copy there.

    Returns:
        The number of trials that were copied.

    Raises:
        ValueError: ``run`` holds no study, or ``target`` holds anything but an earlier copy of it.
    """
    source = StudyFolder(run).open()
    _check_target(source, target)
    _copy_study(source.path, target)
    launched = source.launched()
    for trial_id in launched:
        trial = source.trial(trial_id)
        patterns = TRIAL_FILES if trial.record_summary() else UNFINISHED_TRIAL_FILES
        for path in (p for pattern in patterns for p in trial.path.glob(pattern)):
            _copy(path, target / "trials" / trial_id)
    inner = (publish(folder, target / folder.name) for folder in inner_folders(run))
    return len(launched) + sum(inner)


def restore(records: Path, run: Path) -> int:
    """Copy to ``run`` what a published copy has and it lacks, so that it continues from there.

    ``run`` may be absent. Trainings without a record begin again: a copy has no checkpoints.

    Returns:
        The number of records that were copied.

    Raises:
        ValueError: ``records`` holds no study, or ``run`` holds anything but the run or a copy.
    """
    source, target = StudyFolder(records).open(), StudyFolder(run)
    _check_target(source, run)
    if not (run / "study.json").exists():
        _copy_study(source.path, run)
    inner = (restore(folder, run / folder.name) for folder in inner_folders(records))
    return share_records(source, target, source.launched()) + sum(inner)


def share_records(source: StudyFolder, target: StudyFolder, trial_ids: Iterable[str]) -> int:
    """Copy those of these trials to ``target`` that are finished in ``source`` and not there.

    Returns:
        The number of records that were copied.
    """
    lacking = [
        trial_id
        for trial_id in trial_ids
        if source.record_summary(trial_id) and not target.record_summary(trial_id)
    ]
    for trial_id in lacking:
        for path in (p for t in TRIAL_FILES for p in source.trial(trial_id).path.glob(t)):
            _copy(path, target.path / "trials" / trial_id)
    return len(lacking)


def _copy_study(run: Path, target: Path) -> None:
    """Copy the files of the study, the sources of its families first: readers need them."""
    refuse_link(run / SOURCES)
    for path in (run / SOURCES).glob("*.py"):
        _copy(path, target / SOURCES)
    for name in STUDY_FILES:
        _copy(run / name, target)


def _check_target(source: StudyFolder, target: Path) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    is_copy = (target / "study.json").exists() and _identity(StudyFolder(target)) == _identity(
        source
    )
    if not is_copy or target.resolve() == source.path.resolve():
        raise ValueError(
            f"{target} is not empty and not a copy of {source.path}: choose another folder"
        )


def _identity(folder: StudyFolder) -> tuple[object, object]:
    """Creation time and name, which distinguish runs of one study."""
    request = folder.request()
    return request.get("created"), request.get("name")


def _copy(path: Path, folder: Path) -> None:
    """Copy a plain file; one that is absent is left out, one that is none with a warning."""
    try:
        content = read_plain(path)
    except FileNotFoundError:
        return
    except Damaged as error:
        warn_once(f"{error}; it is not copied")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / path.name, content)
