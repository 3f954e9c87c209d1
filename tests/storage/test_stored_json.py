"""The reader of stored files: bounds, strictness, checksums, and the name of the file in errors."""

import json
import os
from pathlib import Path

import pytest

from archsearch.storage import plain_file
from archsearch.storage.files import append_json, write_json
from archsearch.storage.plain_file import Damaged
from archsearch.storage.stored_json import MAX_DEPTH, has_checksum, read_json, read_lines

DEEP = "[" * 200_000 + "]" * 200_000
TOO_DEEP = "[" * MAX_DEPTH + "]" * MAX_DEPTH

CONTENTS = {
    "empty": ("", "Expecting value"),
    "half": ('{"a": ', "Expecting value"),
    "a list": ("[1]", "wanted a JSON object, got list"),
    "deep": ('{"a":' + DEEP + "}", "nested deeper than 64"),
    "just too deep": ('{"a":' + TOO_DEEP + "}", "nested deeper than 64"),
    "5,000 digits": ('{"a":' + "9" * 5000 + "}", "a number of 5000 digits"),
    "20 digits": ('{"a":-' + "9" * 20 + "}", "digits"),
    "10^400": ('{"a":1e400}', "too large"),
    "NaN": ('{"a":NaN}', "NaN is not a number in JSON"),
    "infinity": ('{"a":-Infinity}', "-Infinity is not a number in JSON"),
    "not UTF-8": (b'{"a":"\xff"}', "utf-8"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_no_program_of_ours_writes_is_refused_with_the_file_and_the_reason(
    name: str, tmp_path: Path
) -> None:
    content, reason = CONTENTS[name]
    path = tmp_path / "study.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Damaged, match=f"study.json is damaged: .*{reason}"):
        read_json(path)


def test_values_within_the_bounds_are_read(tmp_path: Path) -> None:
    values = {"a": [[-(2**63), 2**63, 1e308, None, "\udc80\x1b"]], "b": {}}
    write_json(tmp_path / "a.json", values, indent=1)
    assert read_json(tmp_path / "a.json") == values


def test_a_file_over_the_bound_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_file, "MAX_BYTES", 1000)
    path = tmp_path / "a.json"
    path.touch()
    os.truncate(path, 1001)
    with pytest.raises(Damaged, match=r"has 1,001 bytes, a stored file has at most 1,000"):
        read_json(path)


def make_link(path: Path) -> None:
    (path.parent / "target").write_text("{}")
    path.symlink_to(path.parent / "target")


NOT_PLAIN = {
    "a link": make_link,
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_is_no_plain_file_is_neither_read_nor_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    NOT_PLAIN[name](path)
    kind = name.partition(" to ")[0]
    for use in (read_json, lambda p: append_json(p, {"epoch": 1})):
        with pytest.raises(Damaged, match=f"events.jsonl is {kind}, not a plain file"):
            use(path)
    assert read_lines(path) == []
    if name == "a link":
        assert (tmp_path / "target").read_text() == "{}"


def test_every_flipped_digit_of_a_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"accuracy": 97.25, "seeds": [0, 1], "name": "x"}, indent=1)
    content = path.read_bytes()
    key = content.index(b"crc32")
    digits = [i for i, byte in enumerate(content) if chr(byte).isdigit() and i - key not in (3, 4)]
    assert len(digits) > 8
    for i in digits:
        path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        with pytest.raises(Damaged, match="its checksum does not fit"):
            read_json(path)


def test_another_layout_of_the_same_values_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": [1.5, None], "b": "ü"}, indent=1)
    values = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(values.items())), ensure_ascii=False))
    assert read_json(path) == {"a": [1.5, None], "b": "ü"}


def test_a_damaged_line_is_named_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "events.jsonl"
    for epoch in (1, 2, 3):
        append_json(path, {"epoch": epoch, "loss": 7.25})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"7.25", b"1.25") + lines[2] + b'{"epoch":')
    assert [event["epoch"] for event in read_lines(path)] == [1, 3]
    assert f"{path}: line 2 is damaged and not used: its checksum" in caplog.text
    assert "line 4" not in caplog.text  # it is being written, or its writer was killed


def test_files_without_checksum_are_read_and_reported(tmp_path: Path) -> None:
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_text('{"epoch":1}\n')
    append_json(old, {"epoch": 2})
    append_json(new, {"epoch": 1})
    assert [event["epoch"] for event in read_lines(old)] == [1, 2]
    assert (has_checksum(old), has_checksum(new)) == (False, True)
