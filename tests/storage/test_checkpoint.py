"""Checkpoints: which are kept, and what damage and malice do."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from archsearch.storage import checkpoint


def state(epoch: int) -> dict[str, object]:
    return {"weights": torch.full((3,), float(epoch)), "epoch": epoch, "rates": [0.1, None]}


def save(folder: Path, *epochs: int, best: int | None = None) -> None:
    for epoch in epochs:
        checkpoint.save(folder, state(epoch), epoch, best=epoch == best)


def epochs(folder: Path, kind: str = "checkpoint") -> list[int]:
    return [found.epoch for found in checkpoint.stored(folder, kind)]


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None
    save(tmp_path, 1)
    found = checkpoint.load(tmp_path)
    assert found is not None
    epoch, loaded = found
    assert epoch == 1
    assert torch.equal(loaded["weights"], torch.ones(3))
    assert loaded["rates"] == [0.1, None]


def test_the_two_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, best=1)
    save(tmp_path, 3, 4, 5, best=3)
    assert epochs(tmp_path) == [5, 4]
    assert epochs(tmp_path, "best") == [3]
    assert len(list(tmp_path.iterdir())) == 3
    best = checkpoint.load(tmp_path, "best")
    assert best is not None
    assert best[0] == 3


def test_newest_is_by_epoch_not_by_file_time(tmp_path: Path) -> None:
    save(tmp_path, 9, 10)
    for found in checkpoint.stored(tmp_path):
        os.utime(found.path, (0, 10**9 if found.epoch == 9 else 0))
    assert epochs(tmp_path) == [10, 9]


def test_saving_the_same_epoch_again_is_harmless(tmp_path: Path) -> None:
    save(tmp_path, 1, 1, best=1)
    assert epochs(tmp_path) == [1]
    assert epochs(tmp_path, "best") == [1]


def test_a_best_is_copied_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    save(tmp_path, 1, best=1)
    assert checkpoint.load(tmp_path, "best") is not None


def test_a_truncated_one_gives_way_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1, 2)
    newest = checkpoint.stored(tmp_path)[0].path
    whole = newest.read_bytes()
    for told, size in enumerate((0, 1, len(whole) // 2, len(whole) - 1), 1):
        newest.write_bytes(whole[:size])
        found = checkpoint.load(tmp_path)
        assert found is not None
        assert found[0] == 1, size
        assert newest.with_name(newest.name + ".corrupt").exists()
        assert caplog.text.count("sha256") == told


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    newest = checkpoint.stored(tmp_path)[0]
    for size in reversed(range(newest.path.stat().st_size)):
        os.truncate(newest.path, size)
        with pytest.raises(ValueError, match="sha256"):
            checkpoint._read(newest)


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    newest = checkpoint.stored(tmp_path)[0].path
    whole = newest.read_bytes()
    for place in range(0, len(whole), 7):
        newest.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = checkpoint.load(tmp_path)
        assert found is not None
        assert found[0] == 1, place
    newest.write_bytes(whole)
    assert checkpoint.load(tmp_path) is not None


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_malicious_pickle_is_never_executed(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    proof, evil = tmp_path / "executed", tmp_path / "evil"
    if how == "torch":
        torch.save({"weights": Evil(proof)}, evil)
    else:
        evil.write_bytes(pickle.dumps(Evil(proof)))
    digest = hashlib.sha256(evil.read_bytes()).hexdigest()
    evil.rename(tmp_path / f"checkpoint-00002-{digest}.pt")

    found = checkpoint.load(tmp_path)

    assert found is not None
    assert found[0] == 1
    assert not proof.exists()
    assert ("more than tensors" if how == "torch" else "format") in caplog.text
    assert len(list(tmp_path.glob("*.corrupt"))) == 1
