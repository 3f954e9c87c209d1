"""A study on disk: ``runs/<study>`` with study.json, a folder per trial, and one lock.

Everything here reads and writes files of ours only; ids are checked before they become paths, and
nothing is ever unpickled.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from archsearch.core.task import Data
from archsearch.core.versions import versions
from archsearch.storage import lock
from archsearch.storage.files import DISK_FULL, Damaged, log, quarantine, well_formed, write_json
from archsearch.storage.lock import Locked
from archsearch.storage.request import (
    STUDY_SCHEMAS,
    data_of,
    differences,
    ids_of,
    migrated,
    study_of,
    to_request,
    trials_of,
    union,
)
from archsearch.storage.trial_folder import (
    FINISHED,
    Glance,
    State,
    TrialFolder,
    glance,
    read_checked,
)
from archsearch.study import Study, Trial

__all__ = ["FINISHED", "State", "StudyFolder", "TrialFolder", "checked_name"]

MAX_NAME_BYTES = 120

_TRIAL_ID = re.compile(r"[0-9a-f]{16}")


def checked_name(name: str) -> str:
    """``name``, fit to be a folder's name anywhere.

    Raises:
        ValueError: naming everything that is wrong with it.
    """
    problems = [f"{c!r} is in it" for c in sorted(set(name)) if c in '/\\:*?"<>|' or _is_control(c)]
    if not name.strip():
        problems.append("it is empty")
    if name.startswith((".", "-")) or name != name.strip() or name.endswith("."):
        problems.append("it begins with '.' or '-', ends with '.', or has spaces around it")
    if (size := len(os.fsencode(name)) if name.isprintable() else 0) > MAX_NAME_BYTES:
        problems.append(f"it is {size} bytes long, at most {MAX_NAME_BYTES} are")
    if problems:
        raise ValueError(f"{name!r} cannot be the name of a study: {'; '.join(problems)}")
    return unicodedata.normalize("NFC", name)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


class StudyFolder:
    """One study's folder; making this object touches no file."""

    def __init__(self, path: Path | str) -> None:
        if "\0" in str(path):
            raise ValueError(f"a folder's name holds no NUL character, got {str(path)!r}")
        self.path = Path(path)
        self._trials = self.path / "trials"

    def create(
        self, study: Study, data: Data, command: Iterable[str] = (), *, extend: bool = False
    ) -> "StudyFolder":
        """Start the study here, or find that this very study was started here before.

        With ``extend``, new cells, seeds and trials of a plan are added, and ``command`` is the one
        that goes on from then; nothing is ever taken away, and adding nothing is told.

        Raises:
            ValueError: naming every difference to what was request here before; or when the folder
                cannot be written, or the study's name could not name one.
            archsearch.storage.lock.Locked: when another process works here.
        """
        checked_name(study.name)
        with self._writing():
            self._trials.mkdir(parents=True, exist_ok=True)
        with self.lock():
            try:
                old = self._read()
            except FileNotFoundError:
                self._begin(study, data, command)
            except Damaged:
                quarantine(self.path / "study.json", "it is damaged")
                self._begin(study, data, command)
            else:
                self._go_on(old, study, data, command, extend)
        return self

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what the system says about the folder into words; a full disk stays one."""
        try:
            yield
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            raise ValueError(
                f"cannot write in {self.path}: {error.strerror}. Choose another folder with --out"
            ) from error

    def _begin(self, study: Study, data: Data, command: Iterable[str]) -> None:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        by = {"command": list(command), "created": created, "versions": versions()}
        with self._writing():
            write_json(self.path / "study.json", {**to_request(study, data), **by}, indent=1)

    def _go_on(
        self, old: dict[str, Any], study: Study, data: Data, command: Iterable[str], extend: bool
    ) -> None:
        found = differences(old, to_request(study, data))
        refused = [d.text for d in found if not (extend and d.extends)]
        if refused:
            advice = "Choose another folder with --out" + (
                ", or add to it with --extend" if all(d.extends for d in found) else ""
            )
            listed = "".join(f"\n  {text}" for text in refused)
            raise ValueError(f"{self.path} holds another study than request for:{listed}\n{advice}")
        by: dict[str, Any] = {
            k: old[k] for k in ("command", "created", "versions", "commands_before") if k in old
        }
        request = to_request(union(study_of(old), study), data)
        if differences(old, request):  # the old command would be refused from now on
            by["commands_before"] = [*old.get("commands_before", []), old["command"]]
            by["command"] = list(command)
        elif extend:
            log.warning("--extend adds nothing: the plan in %s has all of this already", self.path)
        new = {**request, **by}
        if new != old:
            with self._writing():
                write_json(self.path / "study.json", new, indent=1)

    def open(self) -> "StudyFolder":
        """This folder, known to hold a readable study; raises as `request`."""
        self.request()
        return self

    def request(self) -> dict[str, Any]:
        """The whole of study.json, as plain values.

        Raises:
            ValueError: when there is no readable study, saying what is there instead.
        """
        try:
            return self._read()
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(f"{self.path} holds no study (study.json is not there)") from None
        except Damaged as error:
            raise ValueError(f"{error}. The command that started it writes it again") from error

    def _read(self) -> dict[str, Any]:
        return migrated(read_checked(self.path / "study.json", STUDY_SCHEMAS))

    def study(self) -> Study:
        with well_formed(self.path / "study.json"):
            return study_of(self.request())

    def data(self) -> Data:
        with well_formed(self.path / "study.json"):
            return data_of(self.request())

    def trials(self) -> tuple[Trial, ...]:
        """Every planned trial in plan order, then those that a search launched beyond the plan."""
        with well_formed(self.path / "study.json"):
            planned = trials_of(self.request())
        known = {trial.id for trial in planned}
        more = (self.trial(i) for i in self.launched() if i not in known)
        return planned + tuple(folder.trial() for folder in more)

    def trial(self, trial_id: str) -> TrialFolder:
        """The folder of a trial.

        Raises:
            ValueError: for what is no trial id: only ids become paths.
        """
        if not _TRIAL_ID.fullmatch(trial_id):
            raise ValueError(f"a trial's id is 16 hexadecimal digits, got {trial_id!r}")
        return TrialFolder(self._trials / trial_id)

    def launched(self) -> dict[str, None]:
        """Ids of the trials that have a folder, in the order of the ids."""
        try:
            names = [path.name for path in self._trials.iterdir()]
        except FileNotFoundError:
            return {}
        return dict.fromkeys(sorted(name for name in names if _TRIAL_ID.fullmatch(name)))

    def ids(self) -> tuple[str, ...]:
        """The ids of `trials`, without making a trial of each."""
        return tuple(dict.fromkeys((*ids_of(self.request()), *self.launched())))

    def glance(self, trial_id: str) -> Glance | None:
        """A launched trial's status and metrics, at little cost; None while it has no record."""
        return glance(f"{self._trials}/{trial_id}")

    def states(self) -> dict[str, State]:
        """Where every trial stands."""
        launched = self.launched()
        return {i: self._state(i) if i in launched else "pending" for i in self.ids()}

    def _state(self, trial_id: str) -> State:
        seen = self.glance(trial_id)
        return self.trial(trial_id).state() if seen is None else seen[0]

    @contextmanager
    def lock(self, wait_seconds: float = 1.0) -> Iterator[None]:
        """Hold the study: one driver per folder.

        Raises:
            archsearch.storage.lock.Locked: naming the process that has it, and what to do.
            ValueError: when the folder cannot be written.
        """
        with ExitStack() as stack:
            with self._writing():
                try:
                    stack.enter_context(lock.hold(self.path / "lock", wait_seconds))
                except Locked as error:
                    advice = "Wait for it, or choose another folder with --out"
                    raise Locked(f"{error}. {advice}") from None
            yield
