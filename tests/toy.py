"""Small studies, and work that is over at once or goes wrong on purpose."""

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from archsearch.core.cell import Cell
from archsearch.core.interrupted import Interrupted
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data
from archsearch.families.internimage import Variant
from archsearch.running.run import StudyStopped, run_study
from archsearch.running.runners import Name
from archsearch.storage.files import write_json
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Record, Status, Study

DATA = Data("toy", "f" * 16, num_classes=10, channels=1, num_train=8, num_val=4, num_test=4)
EPOCHS = 3


class DataError(ValueError):
    """Known by its name, as the data module's own."""


class OutOfMemoryError(RuntimeError):
    """Known by its name, as torch's own."""


def recipe(**changes: Any) -> Recipe:
    values = {"epochs": EPOCHS, "batch_size": 4, "image_size": 8, "lr": 0.1, **changes}
    return Recipe("toy", **values)


def cell(l1: int) -> Cell:
    variant = Variant(16, 16, l1, l1 + 3)
    return Cell(requested={"c1": 16, "l1": l1}, fate="exact", variant=variant, cost=None)


def study(cells: int = 3, seeds: tuple[int, ...] = (0,), **changes: Any) -> Study:
    """``cells`` different networks, then one of them asked for again, and an infeasible one."""
    twice = Cell({"c1": 17, "l1": 1}, "repaired", Variant(16, 16, 1, 4), None, "17 -> 16")
    never = Cell({"c1": 15, "l1": 1}, "infeasible", None, None, "odd")
    return Study(
        name="toy",
        question="Does it run?",
        source="tests",
        cells=(*(cell(l1) for l1 in range(1, cells + 1)), twice, never),
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
    """What `train` computes: every epoch must have counted once, in order."""
    total = int(trial_id, 16) % 1009
    for epoch in range(1, epochs + 1):
        total = (31 * total + epoch) % 100_003
    return total


def metrics(folder: StudyFolder) -> dict[str, Any]:
    """What each trial gave, by its id: what must not depend on runners and faults."""
    records = {i: folder.trial(i).record() for i in folder.ids()}
    return {i: r and (r.status, r.metrics, r.curve) for i, r in records.items()}


def expected(folder: StudyFolder) -> dict[str, Any]:
    """`metrics` of an uninterrupted run, by arithmetic."""
    return {
        i: ("complete", {"val_accuracy": float(total_after(EPOCHS, i))}, curve(EPOCHS, i))
        for i in folder.ids()
    }


def curve(epochs: int, trial_id: str) -> tuple[dict[str, Any], ...]:
    values = (total_after(epoch, trial_id) for epoch in range(1, epochs + 1))
    return tuple(
        {"epoch": epoch, "val_accuracy": float(value), "images_per_second": 100.0}
        for epoch, value in enumerate(values, 1)
    )


Stop = Callable[[], bool]


def train(folder: Path, device: str, stop: Stop, seconds: float = 0.0) -> None:
    """Like a training without torch: state.json is the checkpoint, with an event per epoch."""
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
    finish(trial, metrics={"val_accuracy": float(total)}, curve=trial.curve())


def train_with_torch(folder: Path, device: str, stop: Stop) -> None:
    """As `train`, with checkpoints as trainings have them."""
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
    finish(trial, metrics={"val_accuracy": float(state["total"])}, curve=tuple(state["curve"]))


def finish(trial: TrialFolder, status: Status = "complete", **values: Any) -> None:
    trial.write_record(Record(trial.id, status, **values))


def slow(folder: Path, device: str, stop: Stop) -> None:
    train(folder, device, stop, seconds=0.05)


def slow_the_second_time(folder: Path, device: str, stop: Stop) -> None:
    """The first attempt waits to be killed."""
    if (folder / "pid").exists():
        slow(folder, device, stop)
    else:
        deaf(folder, device, stop)


def patient(folder: Path, device: str, stop: Stop) -> None:
    """Runs until it is asked to stop."""
    del device
    TrialFolder(folder).append_event({"epoch": 1, "val_accuracy": 1.0, "images_per_second": 9.0})
    while not stop():
        time.sleep(0.01)
    (folder / "stopped").touch()
    raise Interrupted


def deaf(folder: Path, device: str, stop: Stop) -> None:
    """Never asks whether to stop."""
    del device, stop
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)


def no_op(folder: Path, device: str, stop: Stop) -> None:
    del device, stop
    finish(TrialFolder(folder), metrics={"val_accuracy": 1.0})


def tell_device(folder: Path, device: str, stop: Stop) -> None:
    del stop
    finish(TrialFolder(folder), device=f"{device}, of {os.environ['CUDA_VISIBLE_DEVICES']}")


def diverge(folder: Path, device: str, stop: Stop) -> None:
    del device, stop
    finish(TrialFolder(folder), "diverged", error="the loss is nan")


def die_once(folder: Path, device: str, stop: Stop) -> None:
    """The process goes at the second epoch, once; then `train`."""
    if not (folder / "died").exists():
        calls = iter(range(10))
        (folder / "died").touch()
        train(folder, device, lambda: next(calls) == 2 and os._exit(3))
    train(folder, device, stop)


def die(folder: Path, device: str, stop: Stop) -> None:
    del device, stop
    print(f"last words of {folder.name}", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def die_later_each_time(folder: Path, device: str, stop: Stop) -> None:
    """One more epoch before each death: always progress, so never given up."""
    calls = iter(range(10))
    train(folder, device, lambda: next(calls) == 1 and os._exit(3))
    del stop


def crash_further_each_time(folder: Path, device: str, stop: Stop) -> None:
    """One epoch, too long for the machine: each attempt saves a little more of it, then breaks."""
    trial = TrialFolder(folder)
    steps, _ = trial.load_checkpoint() or (0, {})
    if steps == 5:
        train(folder, device, stop)
        return
    trial.save_checkpoint({}, steps + 1)
    raise RuntimeError("broken")


def crash(folder: Path, device: str, stop: Stop) -> None:
    del device, stop
    raise RuntimeError(f"broken in {folder.name}")


def crash_if_deep(folder: Path, device: str, stop: Stop) -> None:
    """Only the network with l1 = 2 breaks."""
    if getattr(TrialFolder(folder).trial().variant, "l1", 0) == 2:
        raise RuntimeError("too deep")
    train(folder, device, stop)


def crash_unless_mended(folder: Path, device: str, stop: Stop) -> None:
    if not (folder.parent.parent / "mended").exists():
        raise RuntimeError("not mended")
    train(folder, device, stop)


def run_out_of_memory(folder: Path, device: str, stop: Stop) -> None:
    del folder, device, stop
    raise OutOfMemoryError("CUDA out of memory")


def find_no_data(folder: Path, device: str, stop: Stop) -> None:
    del folder, device, stop
    raise DataError("images/7.png is no image")


def fill_the_disk(folder: Path, device: str, stop: Stop) -> None:
    if (folder.parent.parent / "freed").exists():
        train(folder, device, stop)
    raise OSError(errno.ENOSPC, "No space left on device")


def main(path: str, runner: Name, work: str, workers: str = "2") -> int:
    """A driver in a process of its own, to be killed: the same command starts and continues."""
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
