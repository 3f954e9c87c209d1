"""A study on disk: ``runs/<study>`` with study.json, a folder per trial, and one lock.

This module reads and writes only files of ours; ids are checked before they become paths, and
nothing is ever unpickled.
"""

import os
import re
import unicodedata
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from archsearch.core.task import Data
from archsearch.core.versions import versions
from archsearch.storage import lock
from archsearch.storage.differences import Difference, differences, union
from archsearch.storage.family_sources import read_sources, write_sources
from archsearch.storage.faults import NOT_ALLOWED, STORAGE_ERRORS
from archsearch.storage.files import log, quarantine, write_json
from archsearch.storage.lock import Locked
from archsearch.storage.plain_file import Damaged, refuse_link
from archsearch.storage.record_file import FINISHED, RecordSummary, State
from archsearch.storage.request import (
    STUDY_SCHEMAS,
    check_request,
    data_of,
    ids_of,
    migrated,
    stored_variants,
    study_of,
    to_request,
    trials_of,
)
from archsearch.storage.stored_json import has_checksum, read_checked, warn_once, well_formed
from archsearch.storage.trial_folder import SPEC, TrialFolder, record_summary
from archsearch.study import Record, Study, Trial

__all__ = ["FINISHED", "State", "StudyFolder", "TrialFolder", "checked_name"]

MAX_NAME_BYTES = 120

_TRIAL_ID = re.compile(r"[0-9a-f]{16}")


def checked_name(name: str) -> str:
    """``name`` in Unicode normal form, if it is valid as the name of a folder on any system.

    Raises:
        ValueError: it is not; the message lists every problem.
    """
    problems = [
        f"it contains {c!r}" for c in sorted(set(name)) if c in '/\\:*?"<>|' or _is_control(c)
    ]
    if not name.strip():
        problems.append("it is empty")
    if name.startswith((".", "-")) or name != name.strip() or name.endswith("."):
        problems.append("it begins with '.' or '-', ends with '.', or has spaces around it")
    if (size := len(os.fsencode(name)) if name.isprintable() else 0) > MAX_NAME_BYTES:
        problems.append(f"it is {size} bytes long, more than {MAX_NAME_BYTES}")
    if problems:
        raise ValueError(f"{name!r} cannot be the name of a study: {'; '.join(problems)}")
    return unicodedata.normalize("NFC", name)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class StudyContents:
    """What study.json holds: the request as plain values, the study, its data and its trials.

    ``trials`` are those of `StudyFolder.trials`, ``launched`` the ids that have a folder.
    """

    request: dict[str, Any]
    study: Study
    data: Data
    trials: tuple[Trial, ...]
    launched: Mapping[str, None]


class StudyFolder:
    """The folder of one study. Creating this object reads and writes no file."""

    def __init__(self, path: Path | str) -> None:
        if "\0" in str(path):
            raise ValueError(f"the path of a folder has no NUL character, got {str(path)!r}")
        self.path = Path(path)
        self._trials = self.path / "trials"

    def create(
        self, study: Study, data: Data, command: Iterable[str] = (), *, extend: bool = False
    ) -> "StudyFolder":
        """Create the study in this folder, or resume it if the folder holds the same study.

        With ``extend``, new cells, seeds and trials of a plan are added, and ``command`` resumes
        the study from then on. Nothing is ever removed; a warning says if nothing is added.

        Raises:
            ValueError: the folder holds another study (the message lists every difference) or
                cannot be written, or the study's name is not valid for a folder.
            archsearch.storage.lock.Locked: another process works in the folder.
        """
        checked_name(study.name)
        with self._writing():
            self._trials.mkdir(parents=True, exist_ok=True)
        with self.lock():
            try:
                old = self._read()
            except FileNotFoundError:
                self._write_new(study, data, command)
            except Damaged:
                quarantine(self.path / "study.json", "it is damaged")
                self._write_new(study, data, command)
            else:
                self._resume(old, study, data, command, extend)
        return self

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Convert system errors of a wrong folder to ValueError, but not those of the storage."""
        try:
            yield
        except OSError as error:
            wrong_folder = error.errno in NOT_ALLOWED and not (self.path / "study.json").exists()
            if error.errno in STORAGE_ERRORS and not wrong_folder:
                raise
            raise ValueError(
                f"cannot write in {self.path}: {error.strerror}. Choose another folder with --out"
            ) from error

    def _write_new(self, study: Study, data: Data, command: Iterable[str]) -> None:
        self._write_sources(study)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        by = {"command": list(command), "created": created, "versions": versions()}
        with self._writing():
            write_json(self.path / "study.json", {**to_request(study, data), **by}, indent=1)

    def _write_sources(self, study: Study) -> None:
        """Copy the files of the study's families into the folder, before any trial."""
        with self._writing():
            write_sources(self.path, study.families)

    def _resume(
        self, old: dict[str, Any], study: Study, data: Data, command: Iterable[str], extend: bool
    ) -> None:
        self._refuse_other_study(differences(old, to_request(study, data)), extend)
        self._write_sources(study)
        request = to_request(union(study_of(old), study), data)
        history = ("command", "created", "versions", "commands_before")
        new = {**request, **{key: old[key] for key in history if key in old}}
        if differences(old, request):  # the old command would be refused from now on
            new["commands_before"] = [*old.get("commands_before", []), old["command"]]
            new["command"] = list(command)
        elif extend:
            log.warning("--extend adds nothing: the plan in %s has all of this already", self.path)
        if new != old:
            with self._writing():
                write_json(self.path / "study.json", new, indent=1)

    def _refuse_other_study(self, all_differences: list[Difference], extend: bool) -> None:
        refused = [d.text for d in all_differences if not (extend and d.extends)]
        if not refused:
            return
        advice = "Choose another folder with --out"
        if all(d.extends for d in all_differences):
            advice += ", or add to the study with --extend"
        lines = "".join(f"\n  {text}" for text in refused)
        raise ValueError(
            f"{self.path} holds another study than the requested one:{lines}\n{advice}"
        )

    def open(self) -> "StudyFolder":
        """This folder, after a check that it holds a readable study; raises as `request`."""
        self.request()
        return self

    def request(self) -> dict[str, Any]:
        """The content of study.json as plain values.

        Raises:
            ValueError: the folder holds no readable study; the message says why.
        """
        try:
            return self._read()
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(f"{self.path} holds no study: it has no study.json") from None
        except Damaged as error:
            advice = "The command that started the study writes the file again"
            raise ValueError(f"{error}. {advice}") from error

    def _read(self) -> dict[str, Any]:
        path = self.path / "study.json"
        values = read_checked(path, STUDY_SCHEMAS)
        with well_formed(path):
            request = migrated(values)
            check_request(request)
        read_sources(self.path, stored_variants(request))
        return request

    def study(self) -> Study:
        request = self.request()
        with well_formed(self.path / "study.json"):
            return study_of(request)

    def data(self) -> Data:
        request = self.request()
        with well_formed(self.path / "study.json"):
            return data_of(request)

    def trials(self) -> tuple[Trial, ...]:
        """Every planned trial in plan order, then those that a search launched beyond the plan."""
        return self.contents().trials

    def contents(self) -> StudyContents:
        """The study and its trials, with study.json read once; raises as `request`."""
        request, launched = self.request(), self.launched()
        with well_formed(self.path / "study.json"):
            study, data = study_of(request), data_of(request)
            planned = trials_of(request, study, data)
        trials = planned + tuple(self._beyond({trial.id for trial in planned}, launched))
        return StudyContents(request, study, data, trials, launched)

    def _beyond(self, planned: Container[str], launched: Iterable[str]) -> Iterator[Trial]:
        """The launched trials that are not planned; one with a damaged spec is left out."""
        for trial_id in launched:
            if trial_id not in planned and (trial := self.launched_trial(trial_id)):
                yield trial

    def launched_trial(self, trial_id: str) -> Trial | None:
        """The trial as launched; None without a spec, or with a warning if it is damaged."""
        try:
            return self.trial(trial_id).trial()
        except FileNotFoundError:
            return None
        except ValueError as error:
            warn_once(f"{error}; the trial is left out")
            return None

    def trial(self, trial_id: str) -> TrialFolder:
        """The folder of a trial.

        Raises:
            ValueError: ``trial_id`` is not a trial id: only ids become paths.
        """
        if not _TRIAL_ID.fullmatch(trial_id):
            raise ValueError(f"a trial's id is 16 hexadecimal digits, got {trial_id!r}")
        return TrialFolder(self._trials / trial_id)

    def records(self, trial_ids: Iterable[str]) -> dict[str, Record]:
        """The records of those of these trials that have one, by trial id."""
        records = {trial_id: self.trial(trial_id).record() for trial_id in trial_ids}
        return {trial_id: record for trial_id, record in records.items() if record is not None}

    def launched(self) -> dict[str, None]:
        """Ids of the trials that have a spec, sorted. A folder without one is not a trial.

        Raises:
            ValueError: ``trials`` or folders in it are links; the message names all of them.
        """
        refuse_link(self._trials)
        try:
            entries = [e for e in os.scandir(self._trials) if _TRIAL_ID.fullmatch(e.name)]
        except FileNotFoundError:
            return {}
        except NotADirectoryError:
            raise ValueError(f"{self._trials} is no folder: move it away") from None
        if links := sorted(entry.path for entry in entries if entry.is_symlink()):
            raise ValueError(
                f"links inside a run are not followed, got {', '.join(links)}: put the folders "
                "themselves there"
            )
        return dict.fromkeys(sorted(e.name for e in entries if os.path.lexists(f"{e.path}/{SPEC}")))

    def unprotected(self) -> list[Path]:
        """The stored files without a checksum, which an earlier version wrote."""
        names = (SPEC, "record*.json", "events.jsonl", "attempts*.jsonl")
        paths = [self.path / "study.json", *self.path.glob("quote.json")]
        for trial_id in self.launched():
            paths += [p for name in names for p in self.trial(trial_id).path.glob(name)]
        return [path for path in paths if not has_checksum(path)]

    def ids(self) -> tuple[str, ...]:
        """The ids of `trials`, without reading the planned ones."""
        return self._ids(self.launched())

    def _ids(self, launched: Iterable[str]) -> tuple[str, ...]:
        planned = dict.fromkeys(ids_of(self.request()))
        return (*planned, *(trial.id for trial in self._beyond(planned, launched)))

    def record_summary(self, trial_id: str) -> RecordSummary | None:
        """A launched trial's status and metrics, at little cost; None while it has no record."""
        return record_summary(f"{self._trials}/{trial_id}")

    def states(self) -> dict[str, State]:
        """The state of every trial, by its id."""
        launched = self.launched()
        return {i: self._state(i) if i in launched else "pending" for i in self._ids(launched)}

    def _state(self, trial_id: str) -> State:
        summary = self.record_summary(trial_id)
        return self.trial(trial_id).state() if summary is None else summary[0]

    @contextmanager
    def lock(self, wait_seconds: float = 1.0) -> Iterator[None]:
        """Hold the folder's lock: one driver per folder.

        Raises:
            archsearch.storage.lock.Locked: another process holds it; the message names the process
                and advises what to do.
            ValueError: the folder cannot be written, or has links to other folders in it.
        """
        self.launched()  # raises for links, before anything is written through one
        with ExitStack() as stack:
            with self._writing():
                try:
                    stack.enter_context(lock.hold(self.path / "lock", wait_seconds))
                except Locked as error:
                    if isinstance(error.__cause__, Damaged):
                        raise
                    advice = "Wait for it, or choose another folder with --out"
                    raise Locked(f"{error}. {advice}") from None
            yield
