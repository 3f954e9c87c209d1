"""Mutations of every stored file: no traceback, and no number that differs without a word."""

import contextlib
import io
import json
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from archsearch.cli import main
from archsearch.reports.context import Context
from archsearch.reports.summary import summarize
from archsearch.results import load
from archsearch.storage.files import write_json
from archsearch.storage.stored_json import warn_once
from archsearch.storage.study_folder import StudyFolder
from tests import toy

MUTATIONS = 500
VALUES = (b"null", b"true", b"[]", b"{}", b'"\\u001b[31m"', b"1e400", b"NaN", b"9" * 5000)


def bit(content: bytearray, rng: random.Random, i: int) -> bytearray:
    content[i] ^= 1 << rng.randrange(8)
    return content


def digit(content: bytearray, rng: random.Random, i: int) -> bytearray:
    digits = [k for k, byte in enumerate(content) if 48 <= byte <= 57] or [i]
    content[rng.choice(digits)] = rng.choice(b"0123456789")
    return content


def zeros(content: bytearray, rng: random.Random, i: int) -> bytearray:
    del rng
    content[i : i + 64] = bytes(len(content[i : i + 64]))
    return content


def swapped(content: bytearray, rng: random.Random, i: int) -> bytearray:
    j = rng.randrange(len(content))
    content[i], content[j] = content[j], content[i]
    return content


def cut(content: bytearray, rng: random.Random, i: int) -> bytearray:
    del rng
    return content[:i]


def repeated(content: bytearray, rng: random.Random, i: int) -> bytearray:
    del rng
    return content[:i] + content[max(0, i - 100) : i] + content[i:]


def foreign_value(content: bytearray, rng: random.Random, i: int) -> bytearray:
    del i
    value = rng.choice(
        [b"null", b"true", b"[]", b"{}", b'"\\u001b[31m"', b"1e400", b"NaN", b"9" * 5000]
    )
    start = rng.choice([k for k, byte in enumerate(content) if byte == 58] or [0])
    return content[: start + 1] + value + b"," + content[start + 1 :]


KINDS = (bit, bit, bit, digit, digit, zeros, swapped, cut, repeated, foreign_value)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with complete, failed, retried and interrupted trials, and an estimate."""
    folder = toy.create(tmp_path / "run", cells=4, seeds=(0, 1))
    for i, trial in enumerate(folder.trials()):
        one = folder.trial(trial.id)
        one.write_spec(trial)
        rows = toy.curve(2, trial.id)
        for row in rows:
            one.append_event(row)
        if i == 1:
            one.append_attempt({"kind": "crash", "error": "x", "epoch": 1, "steps": 4})
            toy.finish(one, "failed", kind="crash", error="worker died")
            one.set_record_aside()
        if i < 6:
            toy.finish(one, metrics={"val_accuracy": 50.0 + i}, curve=rows, seconds=1.5)
    write_json(folder.path / "quote.json", {"seconds": dict.fromkeys(folder.ids(), 1.25)}, indent=1)
    return folder.path


def numbers(run: Path) -> Any:
    """Every number of a run, as a report prints them."""
    results = load(run)
    summary = summarize(Context.of(results))
    curves = {t.trial.id: [dict(row) for row in t.curve] for t in results.trials}
    study = results.study.to_dict()
    text = json.dumps(
        [results.rows(), results.seed_rows(), curves, study, summary.headline, summary.confidence]
    )
    return json.loads(text)


@contextlib.contextmanager
def messages() -> Iterator[io.StringIO]:
    """What is said meanwhile, by logging or on stderr."""
    warn_once.cache_clear()
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger("archsearch").addHandler(handler)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            yield said
    finally:
        logging.getLogger("archsearch").removeHandler(handler)


def outcome(call: Callable[[], Any]) -> tuple[Any, str]:
    """The result of a call and what it said; errors for users are no result, but said."""
    with messages() as said:
        try:
            result = call()
        except (ValueError, FileNotFoundError) as error:
            return None, said.getvalue() + str(error)
    return result, said.getvalue()


@pytest.mark.slow
def test_no_mutation_of_a_stored_file_gives_a_traceback_or_silently_another_number(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(0)
    expected, _ = outcome(lambda: numbers(run))
    assert expected is not None
    files = sorted(p for p in run.rglob("*.json*") if p.name != "lock")
    names = sorted({path.name for path in files})
    assert len(names) > 6
    changed = 0
    for n in range(MUTATIONS):
        name = rng.choice(names)
        path = rng.choice([p for p in files if p.name == name])
        content = path.read_bytes()
        mutated = rng.choice(KINDS)(bytearray(content), rng, rng.randrange(len(content)))
        path.write_bytes(mutated)
        got, said = outcome(lambda: numbers(run))
        assert "\x1b" not in said
        assert got == expected or said.strip(), (n, path, content, mutated)
        changed += got != expected
        if n % 10 == 0:
            check_commands(run, monkeypatch)
        path.write_bytes(content)
    assert changed > MUTATIONS / 4


def check_commands(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status ends with a table or in words; a driver reads the folder or refuses it in words."""
    monkeypatch.setattr("sys.argv", ["archsearch", "status", str(run)])
    with messages(), pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (None, 0, 2)
    outcome(lambda: StudyFolder(run).create(toy.study(4, (0, 1)), toy.DATA) and None)
    for corrupt in run.glob("*.corrupt"):  # the study, which its command wrote again
        corrupt.replace(run / "study.json")
