"""A toy study and one trial of it, on disk."""

from pathlib import Path

import pytest

from archsearch.storage.study_folder import StudyFolder, TrialFolder
from tests import toy


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "toy").create(toy.study(), toy.DATA, ["archsearch", "grid"])


@pytest.fixture
def trial(folder: StudyFolder) -> TrialFolder:
    first = folder.trials()[0]
    trial = folder.trial(first.id)
    trial.write_spec(first)
    return trial
