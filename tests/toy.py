"""Small studies, and work that ends immediately or fails on purpose."""

import errno
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from archsearch.core.cell import Cell
from archsearch.core.interrupted import Interrupted, Stop
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data
from archsearch.families.internimage import Variant
from archsearch.running.run import StudyStopped, run_study
from archsearch.running.runners import RunnerName
from archsearch.storage.files import write_json
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Record, Status, Study

DATA = Data("toy", "f" * 16, num_classes=10, channels=1, num_train=8, num_val=4, num_test=4)
EPOCHS = 3


class DataError(ValueError):
    """Recognized by its name, like the data module's error."""


class OutOfMemoryError(RuntimeError):
    """Recognized by its name, like torch's error."""


def recipe(**changes: Any) -> Recipe:
    values = {"epochs": EPOCHS, "batch_size": 4, "image_size": 8, "lr": 0.1, **changes}
    return Recipe("toy", **values)


def cell(l1: int) -> Cell:
    variant = Variant(16, 16, l1, l1 + 3)
    return Cell(requested={"c1": 16, "l1": l1}, fate="exact", variant=variant, cost=None)


def study(cells: int = 3, seeds: tuple[int, ...] = (0,), **changes: Any) -> Study:
    """``cells`` different networks, then one of them a second time, and an infeasible one."""
    repeated = Cell({"c1": 17, "l1": 1}, "repaired", Variant(16, 16, 1, 4), None, "17 -> 16")
    infeasible = Cell({"c1": 15, "l1": 1}, "infeasible", None, None, "odd")
    return Study(
        name="toy",
        question="Does it run?",
        source="tests",
        cells=(*(cell(l1) for l1 in range(1, cells + 1)), repeated, infeasible),
        recipe=recipe(**changes),
        data="toy",
        seeds=seeds,
        axes=("c1", "c1", "l1"),
    )


def create(
    path: Path,
    cells: int = 3,
    command: tuple[str, ...] = ("archsearch", "toy"),
    extend: bool = False,
    **changes: Any,
) -> StudyFolder:
    return StudyFolder(path).create(study(cells, **changes), DATA, command, extend=extend)


def total_after(epochs: int, trial_id: str) -> int:
    """What `train` computes if every epoch counts once, in order."""
    total = int(trial_id, 16) % 1009
    for epoch in range(1, epochs + 1):
        total = (31 * total + epoch) % 100_003
    return total


def accuracy(total: int) -> float:
    """A total as an accuracy in percent; different totals are different accuracies."""
    return total / 1001


def record_of(trial: TrialFolder) -> Record:
    """The record of a trial that has one."""
    record = trial.record()
    assert record is not None
    return record


def results(folder: StudyFolder) -> dict[str, Any]:
    """The results of each trial by its id, which must not depend on runners and faults."""
    records = folder.records(folder.ids())
    return {i: (r.status, r.metrics, r.curve) for i, r in records.items()}


def expected_results(folder: StudyFolder) -> dict[str, Any]:
    """`results` of an uninterrupted run, by arithmetic."""
    return {
        i: ("complete", {"val_accuracy": accuracy(total_after(EPOCHS, i))}, curve(EPOCHS, i))
        for i in folder.ids()
    }


def curve(epochs: int, trial_id: str) -> tuple[dict[str, Any], ...]:
    values = (total_after(epoch, trial_id) for epoch in range(1, epochs + 1))
    return tuple(
        {"epoch": epoch, "val_accuracy": accuracy(value), "images_per_second": 100.0}
        for epoch, value in enumerate(values, 1)
    )


def train(folder: Path, device: str, stop: Stop, seconds: float = 0.0) -> None:
    """A training without torch: state.json is the checkpoint, with an event per epoch."""
    del device
    trial, state = TrialFolder(folder), folder / "state.json"
    assert trial.record() is None
    epochs = trial.trial().recipe.epochs
    epoch, total = 0, total_after(0, trial.id)
    if state.exists():
        epoch, total = json.loads(state.read_text())["at"]
    while epoch < epochs:
        if stop():
            raise Interrupted
        time.sleep(seconds)
        epoch += 1
        total = (31 * total + epoch) % 100_003
        trial.append_event(curve(epoch, trial.id)[-1])
        write_json(state, {"at": [epoch, total]})
    finish(trial, metrics={"val_accuracy": accuracy(total)}, curve=trial.curve())


def train_with_torch(folder: Path, device: str, stop: Stop) -> None:
    """As `train`, with the checkpoints of a real training."""
    del device
    trial = TrialFolder(folder)
    epoch, state = trial.load_checkpoint() or (0, {"total": total_after(0, trial.id), "curve": []})
    while epoch < EPOCHS:
        if stop():
            raise Interrupted
        epoch += 1
        row = curve(epoch, trial.id)[-1]
        state = {"total": (31 * state["total"] + epoch) % 100_003, "curve": [*state["curve"], row]}
        trial.save_checkpoint(state, epoch, best=epoch == 2)
        trial.append_event(row)
    finish(trial, metrics={"val_accuracy": accuracy(state["total"])}, curve=tuple(state["curve"]))


def finish(trial: TrialFolder, status: Status = "complete", **values: Any) -> None:
    trial.write_record(Record(trial.id, status, **values))


def complete_record(trial: TrialFolder, **values: Any) -> Record:
    return Record(trial.id, "complete", {"val_accuracy": 50.0}, **values)


def train_slowly(folder: Path, device: str, stop: Stop) -> None:
    train(folder, device, stop, seconds=0.05)


def train_slowly_the_second_time(folder: Path, device: str, stop: Stop) -> None:
    """The first attempt waits to be killed."""
    if (folder / "pid").exists():
        train_slowly(folder, device, stop)
    else:
        ignore_stop(folder, device, stop)


def run_until_stopped(folder: Path, device: str, stop: Stop) -> None:
    """Runs until a stop is requested."""
    del device
    TrialFolder(folder).append_event({"epoch": 1, "val_accuracy": 1.0, "images_per_second": 9.0})
    while not stop():
        time.sleep(0.01)
    (folder / "stopped").touch()
    raise Interrupted


def ignore_stop(folder: Path, device: str, stop: Stop) -> None:
    """Never polls for a stop request."""
    del device, stop
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)


def read_variant(folder: Path, device: str, stop: Stop) -> None:
    """Notes the name of the trial's network."""
    del device, stop
    trial = TrialFolder(folder)
    finish(trial, notes=(trial.trial().variant.name,))


def record_device(folder: Path, device: str, stop: Stop) -> None:
    del stop
    finish(TrialFolder(folder), device=f"{device}, of {os.environ['CUDA_VISIBLE_DEVICES']}")


def diverge(folder: Path, device: str, stop: Stop) -> None:
    del device, stop
    finish(TrialFolder(folder), "diverged", error="the loss is nan")


def die_once(folder: Path, device: str, stop: Stop) -> None:
    """The process exits after two epochs, once; then `train`."""
    if not (folder / "died").exists():
        calls = iter(range(10))
        (folder / "died").touch()
        train(folder, device, lambda: next(calls) == 2 and os._exit(3))
    train(folder, device, stop)


def die(folder: Path, device: str, stop: Stop) -> None:
    del device, stop
    print(f"last output of {folder.name}", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def die_later_each_time(folder: Path, device: str, stop: Stop) -> None:
    """One more epoch before each exit: there is always progress, so it is always retried."""
    calls = iter(range(10))
    train(folder, device, lambda: next(calls) == 1 and os._exit(3))
    del stop


def crash_further_each_time(folder: Path, device: str, stop: Stop) -> None:
    """One long epoch: each attempt saves a little more of it, then fails."""
    trial = TrialFolder(folder)
    steps, _ = trial.load_checkpoint() or (0, {})
    if steps == 5:
        train(folder, device, stop)
        return
    trial.save_checkpoint({}, steps + 1)
    raise RuntimeError("failed")


def crash(folder: Path, device: str, stop: Stop) -> None:
    del device, stop
    raise RuntimeError(f"failed in {folder.name}")


def crash_if_deep(folder: Path, device: str, stop: Stop) -> None:
    """Only the network with l1 = 2 fails."""
    if getattr(TrialFolder(folder).trial().variant, "l1", 0) == 2:
        raise RuntimeError("too deep")
    train(folder, device, stop)


def raise_out_of_memory(folder: Path, device: str, stop: Stop) -> None:
    del folder, device, stop
    raise OutOfMemoryError("CUDA out of memory")


def raise_data_error(folder: Path, device: str, stop: Stop) -> None:
    del folder, device, stop
    raise DataError("images/7.png is no image")


def raise_disk_full(folder: Path, device: str, stop: Stop) -> None:
    if (folder.parent.parent / "freed").exists():
        train(folder, device, stop)
    raise OSError(errno.ENOSPC, "No space left on device")


def main(path: str, runner: RunnerName, work: str, workers: str = "2") -> int:
    """A driver in a separate process, to be killed: the same command starts and resumes."""
    folder = create(Path(path), cells=4)
    try:
        count = None if runner == "inline" else int(workers)
        run_study(folder, folder.trials(), runner=runner, work=f"tests.toy:{work}", workers=count)
    except StudyStopped as stopped:
        print(stopped)
        return stopped.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))  # type: ignore[arg-type]
