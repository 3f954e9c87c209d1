"""A toy study on disk."""

from pathlib import Path

import pytest

from archsearch.storage.study_folder import StudyFolder
from tests import toy


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return toy.create(tmp_path / "toy")
