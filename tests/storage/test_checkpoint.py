"""Checkpoints: which ones are kept, and how damaged and malicious files are handled."""

import hashlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from archsearch.storage import checkpoint


def state(steps: int) -> dict[str, object]:
    return {"weights": torch.full((3,), float(steps)), "steps": steps, "rates": [0.1, None]}


def save(folder: Path, *steps: int, best: int | None = None) -> None:
    for n in steps:
        checkpoint.save(folder, state(n), n, best=n == best)


def loaded_steps(folder: Path, which: checkpoint.Which = "newest") -> int | None:
    stored = checkpoint.load(folder, which)
    return None if stored is None else stored[0]


def stored_steps(folder: Path, kind: str = "checkpoint") -> list[int]:
    return [stored.steps for stored in checkpoint.stored(folder, kind)]


def test_a_saved_state_is_loaded_unchanged(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None
    save(tmp_path, 1)
    steps, loaded = checkpoint.load(tmp_path)
    assert steps == 1
    assert torch.equal(loaded["weights"], torch.ones(3))
    assert loaded["rates"] == [0.1, None]


def test_only_the_hash_in_the_name_is_computed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (stored,) = checkpoint.stored(tmp_path)
    with zipfile.ZipFile(stored.path) as archive:
        assert {item.CRC for item in archive.infolist() if "/data/" in item.filename} == {0}
    torch.save(state(1), tmp_path / "other.pt")  # torch's setting is as before
    with zipfile.ZipFile(tmp_path / "other.pt") as archive:
        assert 0 not in {item.CRC for item in archive.infolist() if "/data/" in item.filename}


def test_the_two_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, best=1)
    save(tmp_path, 3, 4, 5, best=3)
    assert stored_steps(tmp_path) == [5, 4]
    assert stored_steps(tmp_path, "best") == [3]
    assert len(list(tmp_path.iterdir())) == 3
    assert loaded_steps(tmp_path, "best") == 3


def test_the_newest_has_the_most_steps_whatever_its_file_time(tmp_path: Path) -> None:
    save(tmp_path, 9, 10)
    for stored in checkpoint.stored(tmp_path):
        os.utime(stored.path, (0, 10**9 if stored.steps == 9 else 0))
    assert stored_steps(tmp_path) == [10, 9]


def test_saving_a_state_twice_keeps_one_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1, 1, best=1)
    assert stored_steps(tmp_path) == [1]
    assert stored_steps(tmp_path, "best") == [1]


def test_the_best_is_copied_if_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    save(tmp_path, 1, best=1)
    assert checkpoint.load(tmp_path, "best") is not None


def test_a_truncated_checkpoint_is_replaced_by_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1, 2)
    newest = checkpoint.stored(tmp_path)[0].path
    content = newest.read_bytes()
    for num_warnings, size in enumerate((0, 1, len(content) // 2, len(content) - 1), 1):
        newest.write_bytes(content[:size])
        assert loaded_steps(tmp_path) == 1, size
        assert newest.with_name(newest.name + ".corrupt").exists()
        assert caplog.text.count("sha256") == num_warnings


def test_every_truncation_is_detected(tmp_path: Path) -> None:
    save(tmp_path, 1)
    newest = checkpoint.stored(tmp_path)[0]
    for size in reversed(range(newest.path.stat().st_size)):
        os.truncate(newest.path, size)
        with pytest.raises(ValueError, match="sha256"):
            checkpoint.read(newest)


def test_a_flipped_bit_is_detected(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    newest = checkpoint.stored(tmp_path)[0].path
    content = newest.read_bytes()
    for i in range(0, len(content), 7):
        newest.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        assert loaded_steps(tmp_path) == 1, i
    newest.write_bytes(content)
    assert loaded_steps(tmp_path) == 2


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_malicious_pickle_is_never_executed(
    tmp_path: Path, writer: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    proof, malicious = tmp_path / "executed", tmp_path / "malicious"
    if writer == "torch":
        torch.save({"weights": Malicious(proof)}, malicious)
    else:
        malicious.write_bytes(pickle.dumps(Malicious(proof)))
    digest = hashlib.sha256(malicious.read_bytes()).hexdigest()
    malicious.rename(tmp_path / f"checkpoint-00002-{digest}.pt")

    assert loaded_steps(tmp_path) == 1
    assert not proof.exists()
    assert ("more than tensors" if writer == "torch" else "format") in caplog.text
    assert len(list(tmp_path.glob("*.corrupt"))) == 1
