"""Names of studies, which are names of folders."""

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.storage.study_folder import StudyFolder, checked_name
from tests import toy


@pytest.mark.parametrize(
    "bad",
    ["", " ", ".", "..", "a/b", "/abs", "..\\up", "-rf", ".hidden", "nul\0", "line\nbreak",
     "é" * 61, "right\u202eleft", "lone\udcff", "a:b", "trailing."],
)  # fmt: skip
def test_names_that_are_not_valid_folder_names_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a study"):
        checked_name(bad)


def test_a_study_with_an_invalid_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    study = dataclasses.replace(toy.study(), name="../../etc")
    with pytest.raises(ValueError, match="cannot be the name of a study"):
        StudyFolder(tmp_path / "toy").create(study, toy.DATA)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "good", ["grid-30M", "größe", "网格", "a b", "emoji 🦊", "x" * 120, "a..b"]
)
def test_unusual_names_that_are_valid_folder_names_work(tmp_path: Path, good: str) -> None:
    folder = StudyFolder(tmp_path / checked_name(good)).create(toy.study(), toy.DATA)
    assert folder.states()


@given(st.text(max_size=150))
def test_a_name_is_refused_or_is_one_folder(name: str) -> None:
    try:
        checked = checked_name(name)
    except ValueError:
        return
    assert Path("/runs", checked).parent == Path("/runs")
    assert len(os.fsencode(checked)) < 255
