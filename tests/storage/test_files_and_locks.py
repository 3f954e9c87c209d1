"""Files that appear complete or not at all, and locks on folders."""

import os
from pathlib import Path

import pytest

from archsearch.storage import files, lock
from archsearch.storage.stored_json import read_json
from archsearch.storage.study_folder import StudyFolder
from tests import toy


def test_one_driver_per_folder_and_the_error_names_it(folder: StudyFolder) -> None:
    with folder.lock():
        with pytest.raises(lock.Locked, match=f"process {os.getpid()} on .* --out"):
            StudyFolder(folder.path).lock(0.05).__enter__()
        with pytest.raises(lock.Locked):
            folder.create(toy.study(), toy.DATA)
    with folder.lock(0):
        pass


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_keep_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock.hold(path):
        ready, go = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
        assert lock.is_held(path)
    try:
        assert not lock.is_held(path)
    finally:
        os.write(go[1], b"x")
        assert os.waitpid(child, 0)[1] == 0
        for fd in (*ready, *go):
            os.close(fd)


def test_is_held_does_not_take_the_lock(tmp_path: Path) -> None:
    assert not lock.is_held(tmp_path / "lock")
    with lock.hold(tmp_path / "lock"):
        assert lock.is_held(tmp_path / "lock")
    assert not lock.is_held(tmp_path / "lock")


def test_a_file_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with files.new_file(tmp_path) as file:
        file.write(b"never published")
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
