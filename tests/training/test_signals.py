"""Processes that decode images leave signals to the training process, and end with it."""

import os
import signal
import subprocess
import sys
import threading
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch

from archsearch.training.data import load
from archsearch.training.loader import even_parts, reader
from tests.processes import Process, has_ended, wait_for
from tests.training.test_data import write_tree

ON_LINUX = pytest.mark.skipif(not Path("/proc").exists(), reason="reads processes in /proc")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return Path(write_tree(tmp_path / "set", {"train": 8, "val": 4}, size=(40, 60)))


def python(code: str, images: Path) -> Process:
    program = f"from tests.training.test_signals import *\n{code}"
    command = [sys.executable, "-c", program, str(images)]
    return Process(command, stdout=subprocess.PIPE, text=True, process_group=0)


def decode_images(then: str) -> int:
    """The number of images read; before the last batch wait, fail or continue, as ``then``."""
    files = load(f"imagefolder:{sys.argv[1]}").train
    batches = reader(files, 24, torch.device("cpu"))(even_parts(torch.arange(16), 4))
    first = [next(batches) for _ in range(3)]
    print(*(child.pid for child in active_children()), flush=True)
    if then == "wait":
        signal.pause()
    if then == "fail":
        raise RuntimeError(batches)
    return sum(len(labels) for _, labels in (*first, *batches))


def end_the_first_decoder() -> None:
    """Send it a signal while it still imports modules."""
    os.kill(wait_for(active_children)[0].pid, signal.SIGTERM)


def read_through_a_signal() -> None:
    threading.Thread(target=end_the_first_decoder).start()
    print(decode_images("continue"))


def test_a_signal_to_a_decoder_that_is_starting_is_ignored(images: Path) -> None:
    with python("read_through_a_signal()", images) as process:
        output, _ = process.communicate(timeout=120)
    assert output.splitlines()[1:] == ["16"]


@ON_LINUX
def test_decoders_end_with_a_training_that_is_killed(images: Path) -> None:
    with python("decode_images('wait')", images) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    assert pids
    wait_for(lambda: all(map(has_ended, pids)))


@ON_LINUX
def test_a_training_that_fails_does_not_wait_for_its_decoders(images: Path) -> None:
    """Its traceback keeps the batches, and so the decoders, alive to the end."""
    code = (
        "import sys; sys.excepthook = lambda *e: sys.__dict__.update(kept=e)\ndecode_images('fail')"
    )
    with python(code, images) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert all(has_ended(int(pid)) for pid in output.split())


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_whole_group_saves_a_training_on_photographs(
    tmp_path: Path, images: Path, signum: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    values = ("epochs=2000", "val_fraction=0.25", "batch_size=4")
    recipe = [argument for value in values for argument in ("--set", value)]
    main = [sys.executable, "-c", "from archsearch.cli import main; main()", "train", "16-8-1-1"]
    place = ["--device", "cpu", "--data", f"imagefolder:{images}", "--out", str(out)]
    command = [*main, *place, *recipe]
    with Process(command, stderr=subprocess.PIPE, text=True, process_group=0) as process:
        wait_for(lambda: list(out.glob("events.jsonl")))
        os.killpg(process.pid, signum)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "stopped and saved in" in errors
    assert list(out.glob("checkpoint-*"))
