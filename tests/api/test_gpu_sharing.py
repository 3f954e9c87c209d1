"""A study's number of workers on GPUs follows from its estimate, if none is given."""

from dataclasses import replace
from pathlib import Path

import pytest

from archsearch.api.gpu_sharing import share_gpus
from archsearch.api.options import Launch
from archsearch.running.estimate import Estimate
from archsearch.storage.study_folder import StudyFolder
from archsearch.training import machine
from tests import toy


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "toy").create(toy.study(), toy.DATA)


@pytest.fixture
def estimate(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> Estimate:
    """An estimate for idle GPUs, on a machine with two of 40 GB and 8 cores."""
    monkeypatch.setattr(machine, "gpus", lambda: ("GPU-a", "GPU-b"))
    monkeypatch.setattr(machine, "free_gpu_bytes", lambda names: 40 * 10**9 if names else None)
    monkeypatch.setattr(machine, "cores", lambda: 8)
    return Estimate(dict.fromkeys(folder.ids(), 1e6), 0.0, 2, 10**9, 40 * 10**9, (), ())


def test_trainings_share_gpus_and_a_message_says_so(
    folder: StudyFolder, estimate: Estimate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert share_gpus(folder, Launch(), estimate) == Launch(workers=8)
    assert "4 trainings share each GPU" in (err := capsys.readouterr().err)
    assert "--workers 2 gives each its own" in err
    assert share_gpus(folder, Launch(device="cuda:0"), estimate).workers == 4


@pytest.mark.parametrize(
    "launch",
    [Launch(workers=2), Launch(runner="ray"), Launch(runner="inline"), Launch(device="cpu")],
)
def test_what_is_requested_stays(folder: StudyFolder, estimate: Estimate, launch: Launch) -> None:
    assert share_gpus(folder, launch, estimate) == launch


def test_without_an_estimate_or_room_each_training_has_its_gpu(
    folder: StudyFolder, estimate: Estimate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert share_gpus(folder, Launch(), None) == Launch()
    assert share_gpus(folder, Launch(), replace(estimate, peak_bytes=30 * 10**9)) == Launch()
    assert capsys.readouterr().err == ""


def test_a_study_trains_with_the_workers_that_share_its_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from archsearch.api import session

    used = []
    monkeypatch.setattr(session, "estimate_study", lambda *_: None)
    monkeypatch.setattr(session, "share_gpus", lambda _, launch, __: replace(launch, workers=7))
    monkeypatch.setattr(session, "_train", lambda _, launch, __: used.append(launch.workers) or {})
    monkeypatch.setattr(session, "write_reports", lambda _: None)
    path = tmp_path / "run"
    session._train_and_report(toy.study(), toy.DATA, Launch(), path, ["archsearch"])
    session._train_and_report(toy.study(), toy.DATA, Launch(quote=False), path, ["archsearch"])
    assert used == [7, None]
