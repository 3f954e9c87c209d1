"""Offline runs of Weights & Biases, read back from their files without a network."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wandb")

from archsearch.trackers import export_to
from tests.trackers import runs

BLOCK = 32768
"""Bytes of a block of LevelDB's log format, in which a ``.wandb`` file is written."""


def chunks(content: bytes) -> Iterator[bytes]:
    """Yield the records of a log; those of this test are smaller than a block."""
    position, record = 7, b""
    while position + 7 <= len(content):
        if BLOCK - position % BLOCK < 7:
            position += BLOCK - position % BLOCK
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def read(folder: Path) -> dict[str, Any]:
    """What the file of a run holds: its identity, config, history, summary and exit code."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    content: dict[str, Any] = {"history": [], "summary": {}}
    for chunk in chunks(path.read_bytes()):
        record = Record.FromString(chunk)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            content["run"] = record.run
            content["config"] = {c.key: json.loads(c.value_json) for c in record.run.config.update}
        elif kind == "history":
            items = record.history.item
            content["history"].append(
                {i.key or i.nested_key[0]: json.loads(i.value_json) for i in items}
            )
        elif kind == "summary":
            for i in record.summary.update:
                content["summary"][i.key or "/".join(i.nested_key)] = json.loads(i.value_json)
        elif kind == "exit":
            content["exit"] = record.exit.exit_code
    return content


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_training_is_an_offline_run(tmp_path: Path) -> None:
    folder = runs.make(tmp_path / "g")
    target = tmp_path / "out"
    assert export_to("wandb", folder.path, str(target)) == (3, 1)
    contents = [read(path) for path in (target / "wandb").glob("offline-run-*")]
    by_status = {content["summary"]["status"]: content for content in contents}
    assert {k: c["exit"] for k, c in by_status.items()} == {
        "complete": 0, "diverged": 1, "failed": 1,
    }  # fmt: skip
    complete = by_status["complete"]
    assert complete["config"]["recipe.lr"] == 0.1
    assert complete["config"]["outcome"] == {"status": "complete"}
    assert (complete["run"].project, complete["run"].run_group) == ("g", "(16, 16, 1, 4)")
    assert complete["run"].display_name == "(16, 16, 1, 4), seed 0"
    steps = [(row["_step"], row["val_accuracy"]) for row in complete["history"]]
    assert steps == [(1, 60.0), (2, 80.0)]
    assert complete["summary"]["final/val_accuracy"] == 80.0

    assert export_to("wandb", folder.path, str(target)) == (0, 1)
    runs.retry_the_failed(folder)
    assert export_to("wandb", folder.path, str(target)) == (2, 0)
    assert len(list((target / "wandb").glob("offline-run-*"))) == 5
