"""A Ray cluster of three hosts: nodes and the head are killed and cut off, and versions differ.

``pytest -m cluster`` as root runs it; it takes about fifteen minutes on two busy cores.
"""

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from archsearch.running.run import StudyStopped, run_study
from archsearch.storage.study_folder import StudyFolder
from tests import toy
from tests.processes import Process
from tests.running.hosts import HEAD, REPOSITORY, Hosts, why_not
from tests.running.test_ray import descendants

pytestmark = pytest.mark.cluster

NUM_TRIALS, EPOCHS = 8, 200


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if reason := why_not():
        pytest.skip(f"no network namespaces: {reason}")
    with Hosts() as hosts:
        yield hosts


def start(hosts: Hosts, environments: dict[int, dict[str, str]]) -> None:
    """Start the cluster; ``environments`` are those of hosts that differ."""
    for host in range(3):  # one after another: two at a time may time out
        hosts.start_ray(host, **environments.get(host, {}))
        wait(lambda: hosts.num_nodes() > host)  # noqa: B023  called before the next host


def wait(happened: Callable[[], Any], seconds: float = 240.0) -> None:
    started = time.monotonic()
    while not happened():
        assert time.monotonic() - started < seconds, "it never happened"
        time.sleep(0.2)


def drive(path: Path) -> int:
    """The driver: trains a toy study on the cluster, in a process of its own."""
    folder = toy.create(path, cells=NUM_TRIALS, epochs=EPOCHS)
    options: Any = {"runner": "ray", "ray_address": HEAD, "device": "cpu"}
    try:
        run_study(folder, folder.trials(), work="tests.toy:train_slowly", **options)
    except StudyStopped as stopped:
        print(stopped, flush=True)
        return stopped.exit_code
    return 0


def driver(hosts: Hosts, path: Path) -> Process:
    code = f"import sys; from tests.running.test_three_hosts import *; sys.exit(drive({path!r}))"
    code = "from pathlib import PosixPath; " + code
    pipe = subprocess.PIPE
    env = hosts.environment()
    command = hosts.command(0, sys.executable, "-c", code)
    return Process(command, env=env, stdout=pipe, stderr=pipe, text=True)


def all_epochs_once(folder: StudyFolder, repeated: int) -> None:
    """Every trial has the result of an undisturbed training, and no epoch was trained twice.

    A killed node may repeat the epoch that it was in.
    """
    for trial_id in folder.ids():
        record = toy.record_of(folder.trial(trial_id))
        assert record.metrics == {"val_accuracy": toy.accuracy(toy.total_after(EPOCHS, trial_id))}
        epochs = Counter(event["epoch"] for event in folder.trial(trial_id).events())
        assert set(epochs) == set(range(1, EPOCHS + 1))
        assert sum(epochs.values()) <= EPOCHS + repeated


def started(path: Path) -> bool:
    """Whether all three hosts are at work."""
    return len(list(path.glob("trials/*/events.jsonl"))) >= 3


def finish(process: Process) -> None:
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 0, output + errors


def test_a_killed_node_loses_nothing(hosts: Hosts, tmp_path: Path) -> None:
    start(hosts, {})
    with driver(hosts, path := tmp_path / "run") as process:
        wait(lambda: started(path))
        hosts.kill(1)
        finish(process)
    all_epochs_once(StudyFolder(path), repeated=1)


@pytest.mark.parametrize("seconds", [20, 160])
def test_a_node_that_is_cut_off_trains_on_and_nothing_is_trained_twice(
    hosts: Hosts, tmp_path: Path, seconds: int
) -> None:
    start(hosts, {})
    with driver(hosts, path := tmp_path / "run") as process:
        wait(lambda: started(path))
        hosts.cut_off(1)
        time.sleep(seconds)
        hosts.reconnect(1)
        if not hosts.is_running(1):
            hosts.start_ray(1)
        finish(process)
    all_epochs_once(StudyFolder(path), repeated=0)


def test_the_driver_does_not_wait_for_the_reply_of_a_node_that_is_cut_off(
    hosts: Hosts, tmp_path: Path
) -> None:
    start(hosts, {})
    with driver(hosts, path := tmp_path / "run") as process:
        wait(lambda: started(path))
        hosts.cut_off(1)
        finish(process)  # it is cut off to the end
    all_epochs_once(StudyFolder(path), repeated=0)


def test_a_killed_head_ends_the_driver_in_words_and_the_study_resumes(
    hosts: Hosts, tmp_path: Path
) -> None:
    start(hosts, {})
    with driver(hosts, path := tmp_path / "run") as process:
        wait(lambda: started(path))
        hosts.kill(0, spare=descendants(process.pid))
        output, errors = process.communicate(timeout=300)
    assert process.returncode == 143, output + errors
    assert f"lost the Ray cluster at {HEAD}: its head does not answer" in output
    assert "Resume with: archsearch toy" in output
    assert "Traceback" not in output + errors
    for host in (1, 2):
        hosts.kill(host)
    start(hosts, {})
    with driver(hosts, path) as process:
        finish(process)
    all_epochs_once(StudyFolder(path), repeated=1)


GRID = """
grid --budget 0.3M --c1 8 --group-channels 4 --l1 1,2 --seeds 2 --epochs 1 --no-quote
--set data_fraction=0.05 --set val_fraction=0.1 --runner ray --device cpu
"""


def other_numpy(folder: Path) -> dict[str, str]:
    """The environment of a host that has another numpy, by what its metadata say."""
    info = folder / "numpy-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    return {"PYTHONPATH": str(folder)}


def other_numerics(folder: Path) -> dict[str, str]:
    """The environment of a host whose code trains in another way."""
    for package in ("archsearch", "cuda_ops", "internimage"):
        ignored = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(REPOSITORY / package, folder / package, ignore=ignored)
    study, kernel = folder / "archsearch/study.py", folder / "cuda_ops/csrc/cpu.h"
    study.write_text(study.read_text().replace("NUMERICS = 1", "NUMERICS = 2"))
    kernel.write_text(kernel.read_text() + "// another operator\n")
    return {"PYTHONPATH": str(folder)}


def grid(hosts: Hosts, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = [*GRID.split(), "--ray-address", HEAD, "--out", str(out), *options]
    run = "from archsearch.cli import main; main()"
    command = hosts.command(0, sys.executable, "-c", run, *arguments)
    env = hosts.environment(PYTHONPATH="")
    kwargs: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 400, "env": env}
    return subprocess.run(command, **kwargs, check=False, cwd=out.parent)


def test_nodes_with_other_versions_are_refused_or_noted(hosts: Hosts, tmp_path: Path) -> None:
    numerics, numpy = tmp_path / "numerics", tmp_path / "numpy"
    start(hosts, {1: other_numpy(numpy), 2: other_numerics(numerics)})
    (where := tmp_path / "where").mkdir()
    refused = grid(hosts, where / "run")
    assert refused.returncode == 2, refused.stderr
    of_numpy, of_numerics = (
        next(line for line in refused.stderr.splitlines() if hosts.address(host) in line)
        for host in (1, 2)
    )
    assert "numpy 0.1 (here " in of_numpy
    assert "numerics" not in of_numpy
    for name in ("numerics 2 ", "code ", "operator "):
        assert name in of_numerics
    assert not list(where.iterdir())

    hosts.kill(2)
    wait(lambda: hosts.num_nodes() == 2)
    allowed = grid(hosts, where / "run", "--allow-mixed-versions")
    assert allowed.returncode == 0, allowed.stderr
    folder = StudyFolder(where / "run")
    records = folder.records(folder.ids()).values()
    noted = [any("numpy 0.1" in note for note in record.notes) for record in records]
    assert [record.versions["numpy"] == "0.1" for record in records] == noted
    assert set(noted) == {True, False}
