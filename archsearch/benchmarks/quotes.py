"""How right the quote and the time left are: ``python -m archsearch.benchmarks.quotes``.

Ten small studies of different shapes are quoted and trained, each in a process of its own. The
quote is compared with the time from its end to the end of the command, report included; the time
left, as the progress shows it at 25, 50 and 75% of that time, with what was left then. An error is
predicted / actual - 1. ``--only 1,2`` runs a part, so that a shared machine is kept busy briefly;
``--add FILE`` adds its rows to those of a file.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from archsearch.api.options import Launch, Training
from archsearch.api.requests import Grid
from archsearch.benchmarks.output import print_measured
from archsearch.running.progress import Snapshot
from archsearch.storage.stored_json import read_json

CHECKPOINTS = (0.25, 0.5, 0.75)
"""Parts of a study's time at which the time left is compared."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One study: what is trained, by how many workers."""

    budget: str = "1M"
    values: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 2
    folder_images: int = 0
    """Train on a folder of so many photographs of 64x64 pixels instead of the digits."""


def _values(c1: str, group_channels: str, l1: str) -> dict[str, str]:
    return {"c1": c1, "group_channels": group_channels, "l1": l1}


SHAPES = (
    Shape(values=_values("8,16", "8", "1,2"), training={"epochs": 4}),
    Shape(values=_values("8,12", "4", "1,2,3"), workers=1),
    Shape(values=_values("8,16", "4,8", "1"), training={"seeds": 3}),
    Shape(values=_values("8,12", "4", "1,2"), training={"epochs": 4}),
    Shape(budget="3M", values=_values("16,24", "8", "1,2"), training={"epochs": 1, "seeds": 2}),
    Shape(budget="10M", values=_values("32,48", "16", "1,2"), training={"epochs": 1}),
    Shape(
        budget="0.7M",
        values=_values("8,12", "4", "1,2"),
        training={"epochs": 2, "set": ("image_size=64",)},
    ),
    Shape(
        values=_values("8,16", "8", "1,2"),
        training={"epochs": 3, "set": ("batch_size=16", "data_fraction=0.4")},
        workers=1,
    ),
    Shape(
        budget="0.7M",
        values=_values("8,12", "4", "1,2"),
        training={"recipe": "cifar", "epochs": 2, "set": ("data_fraction=0.5",)},
    ),
    Shape(
        budget="0.7M",
        values=_values("8,12", "4", "1,2"),
        training={"epochs": 2, "set": ("image_size=32", "val_fraction=0.3")},
        folder_images=600,
    ),
)


def measure(number: int, shape: Shape, path: Path) -> Row:
    """Train one study in a process of its own, and compare what was predicted."""
    if shape.folder_images:
        _write_photos(path / "photos", shape.folder_images)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_train, args=(shape, path))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the study {number} ended with exit code {process.exitcode}")
    times = json.loads((path / "times.json").read_text())
    return {"study": number, "shape": _text(shape), **_compare(path, times)}


def _train(shape: Shape, path: Path) -> None:
    """Quote and train a study, and store when which time left was shown."""
    from archsearch.api.session import train_and_report

    data = {"data": f"imagefolder:{path / 'photos'}"} if shape.folder_images else {}
    study = Grid(budget=shape.budget, values=shape.values).study(
        Training(**{**shape.training, **data})
    )
    shown = list[tuple[float, float]]()

    @contextmanager
    def display(_: object) -> Iterator[Any]:
        yield lambda snapshot: shown.extend(_time_left(snapshot))

    launch = Launch(out=path / "run", workers=shape.workers, device="cpu")
    with patch("archsearch.api.live.display", display):
        folder = train_and_report(study, launch, ["archsearch", "grid"])
    times = {"ended": time.time(), "shown": shown, "trials": len(folder.ids())}
    (path / "times.json").write_text(json.dumps(times))


def _time_left(snapshot: Snapshot) -> Iterator[tuple[float, float]]:
    """Yield when the snapshot was taken, and its time left."""
    if snapshot.left is not None:
        yield time.time(), snapshot.left.seconds


def _compare(path: Path, times: Mapping[str, Any]) -> Row:
    quote = path / "run/quote.json"
    quoted, began = 3600 * read_json(quote)["hours"], quote.stat().st_mtime
    seconds = times["ended"] - began
    row: Row = {"trials": times["trials"], "quoted_s": quoted, "seconds": seconds}
    row["error"] = quoted / seconds - 1
    for part in CHECKPOINTS:
        moment = began + part * seconds
        left = [left for at, left in times["shown"] if at <= moment]
        row[f"left_error_{part:.0%}"] = left[-1] / ((1 - part) * seconds) - 1 if left else None
    return row


def _write_photos(path: Path, num: int) -> None:
    """Write a folder of two classes: noise around two colors."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(num):
        pixels = rng.normal(100 + 50 * (i % 2), 40, (64, 64, 3)).clip(0, 255).astype(np.uint8)
        for split in ("train", "val") if i % 5 == 0 else ("train",):
            folder = path / split / f"class-{i % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{i}.jpg")


def _text(shape: Shape) -> str:
    training = {
        k: v if isinstance(v, str | int) else " ".join(v) for k, v in shape.training.items()
    }
    if shape.folder_images:
        training["data"] = f"{shape.folder_images} photographs"
    parts = {**shape.values, **training, "workers": shape.workers}
    return ", ".join([shape.budget, *(f"{name} {value}" for name, value in parts.items())])


def summary(rows: Iterable[Row]) -> Row:
    """Return the median of the absolute errors, of each column that has errors."""
    rows = list(rows)
    names = [name for name in rows[0] if "error" in name]
    columns = {name: [abs(r[name]) for r in rows if r[name] is not None] for name in names}
    medians = {
        name: statistics.median(values) if values else None for name, values in columns.items()
    }
    return {"studies": len(rows), "processor": processor(), **medians}


def processor() -> str:
    """Return the name of the processor, and how many of its cores this process may use."""
    from archsearch.training.device import device_name, device_of

    return f"{device_name(device_of('cpu'))}, {len(os.sched_getaffinity(0))} cores"


def _line(row: Row) -> str:
    errors = [f"{v:+6.0%}" if v is not None else "     –" for k, v in row.items() if "error" in k]
    head = f"{row['study']:>2}  {row['trials']:>3} trials {row['quoted_s']:6.1f} s quoted"
    return f"{head} {row['seconds']:6.1f} s took  {' '.join(errors)}  {row['shape']}"


def _rows(numbers: Iterable[int]) -> Iterator[Row]:
    for number in numbers:
        with tempfile.TemporaryDirectory() as path:
            yield measure(number, SHAPES[number - 1], Path(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="run these studies only, such as 1,2")
    parser.add_argument("--add", type=Path, help="add the rows to this JSON file, or begin it")
    options = parser.parse_args()
    numbers = [int(n) for n in options.only.split(",") if n] or range(1, len(SHAPES) + 1)
    print("errors: of the quote; of the time left at 25%, 50%, 75%", flush=True)
    measured = list[Row]()

    def rows() -> Iterator[Row]:
        for row in _rows(numbers):
            measured.append(row)
            yield row

    print_measured(rows(), _line, as_json=False)
    if options.add is not None:
        old = json.loads(options.add.read_text())["rows"] if options.add.exists() else []
        others = [row for row in old if row["study"] not in {row["study"] for row in measured}]
        measured = sorted(others + measured, key=lambda row: int(row["study"]))
        content = {"summary": summary(measured), "rows": measured}
        options.add.write_text(json.dumps(content, indent=1) + "\n")
    print(f"median absolute errors: {summary(measured)}")


if __name__ == "__main__":
    main()
