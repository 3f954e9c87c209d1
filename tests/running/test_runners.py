"""The contract of the three runners: in this process, in local workers and on Ray a study has the
same records, and faults have the same outcomes."""

import dataclasses
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from archsearch.running import stopping
from archsearch.running.run import StudyStopped, run_study
from archsearch.running.runners import RunnerOptions, choose_runner, gpus_of, num_workers
from archsearch.running.runners.local import LocalRunner
from archsearch.running.runners.on_ray import RayRunner
from archsearch.running.work import failure_kind, resolve
from archsearch.storage.record_values import without_times
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record
from archsearch.training import machine
from tests import toy

RUNNERS = ("inline", "local", "ray")
IN_PROCESSES = ("local", "ray")


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """One Ray for all tests here: runners use a Ray that they find, and leave it running."""
    runner = RayRunner(RunnerOptions(workers=2, device="cpu"))
    yield
    runner.close()


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """``run(work, cells)`` runs a study with the runner that the test names, in a new folder."""

    def run_toy(work: str, cells: int = 3, epochs: int = toy.EPOCHS, **options: Any) -> StudyFolder:
        if request.param == "ray":
            request.getfixturevalue("one_ray")
        folder = toy.create(tmp_path / "toy", cells, epochs=epochs)
        workers = None if request.param == "inline" else 2
        options = {"runner": request.param, "workers": workers, "device": "cpu", **options}
        run_study(folder, folder.trials(), work=f"tests.toy:{work}", **options)
        return folder

    return run_toy


def record_of(folder: StudyFolder, index: int = 0) -> Record:
    return toy.record_of(folder.trial(folder.ids()[index]))


@pytest.mark.parametrize("run", RUNNERS, indirect=True)
def test_the_same_study_gives_the_same_records(run: Any) -> None:
    folder = run("train")
    assert toy.results(folder) == toy.expected_results(folder)
    assert {record_of(folder, i).attempts for i in range(3)} == {1}


@pytest.mark.slow
def test_real_trainings_give_the_same_records_through_every_runner(
    tmp_path: Path, one_ray: None
) -> None:
    del one_ray
    by_runner = [trained(tmp_path / runner, runner) for runner in RUNNERS]
    assert by_runner[0] == by_runner[1] == by_runner[2]


def trained(path: Path, runner: Any) -> dict[str, Any]:
    """Metrics and curves, without measurements, of two small networks with two seeds on digits."""
    from archsearch.core.recipes import RECIPES
    from archsearch.training.data import describe

    recipe = dataclasses.replace(RECIPES["quick"], epochs=2)
    study = dataclasses.replace(toy.study(cells=2), recipe=recipe, seeds=(0, 1), data="digits")
    folder = StudyFolder(path).create(study, describe("digits", recipe.val_fraction))
    workers = None if runner == "inline" else 2
    run_study(folder, folder.trials(), runner=runner, workers=workers, device="cpu")
    records = folder.records(folder.ids())
    assert [record.status for record in records.values()] == ["complete"] * 4
    return {id_: without_times([r.metrics, r.curve]) for id_, r in records.items()}


@pytest.mark.parametrize("run", RUNNERS, indirect=True)
def test_a_failed_trial_has_a_record_and_the_others_continue(run: Any) -> None:
    folder = run("crash_if_deep")
    assert list(folder.states().values()) == ["complete", "failed", "complete"]
    failed = record_of(folder, 1)
    assert (failed.kind, failed.attempts) == ("crash", 3)
    assert failed.error.startswith("RuntimeError: too deep\nTraceback")
    assert "crash_if_deep" in failed.error
    assert failed.versions["python"]


@pytest.mark.parametrize("run", RUNNERS, indirect=True)
@pytest.mark.parametrize(
    ("work", "kind", "attempts"),
    [("raise_out_of_memory", "out-of-memory", 2), ("raise_data_error", "data", 1)],
)
def test_failures_have_their_kind(run: Any, work: str, kind: str, attempts: int) -> None:
    failed = record_of(run(work, cells=1))
    assert (failed.status, failed.kind, failed.attempts) == ("failed", kind, attempts)


@pytest.mark.parametrize("run", RUNNERS, indirect=True)
def test_a_full_disk_stops_the_study_and_loses_nothing(run: Any) -> None:
    with pytest.raises(StudyStopped, match=r"storage failed: .*No space left on device") as stopped:
        run("raise_disk_full")
    assert stopped.value.exit_code == 1
    assert "Resume with: archsearch toy" in str(stopped.value)
    assert "failed" not in run("train").states().values()


@pytest.mark.parametrize("run", RUNNERS, indirect=True)
def test_running_work_stops_on_request_and_resumes_later(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hours pass once the work runs, however long a busy machine takes to start it."""

    def monotonic() -> float:
        return time.monotonic() + 7200 * any(tmp_path.rglob("events.jsonl"))

    monkeypatch.setattr(stopping, "time", SimpleNamespace(monotonic=monotonic))
    with pytest.raises(StudyStopped, match="reached --max-hours"):
        run("run_until_stopped", cells=1, max_hours=1)
    folder = run("train", cells=1)
    assert (folder.trial(folder.ids()[0]).path / "stopped").exists()
    assert record_of(folder).metrics == toy.expected_results(folder)[folder.ids()[0]][1]


@pytest.mark.parametrize("run", IN_PROCESSES, indirect=True)
def test_a_worker_that_dies_once_costs_an_attempt_and_no_epoch(run: Any) -> None:
    folder = run("die_once")
    assert toy.results(folder) == toy.expected_results(folder)
    assert [record_of(folder, i).attempts for i in range(3)] == [2, 2, 2]


@pytest.mark.parametrize("run", IN_PROCESSES, indirect=True)
def test_a_trial_whose_worker_always_dies_fails_with_the_last_output(run: Any) -> None:
    folder = run("die", cells=1)
    failed = record_of(folder)
    assert (failed.kind, failed.attempts) == ("crash", 3)
    assert failed.error.startswith("worker died: ")
    assert f"last output of {folder.ids()[0]}" in failed.error


@pytest.mark.parametrize("run", IN_PROCESSES, indirect=True)
def test_progress_resets_the_count_of_attempts(run: Any) -> None:
    folder = run("die_later_each_time", cells=1, epochs=5)
    epochs = [attempt["epoch"] for attempt in folder.trial(folder.ids()[0]).attempts()]
    assert epochs == [1, 2, 3, 4]
    assert record_of(folder).status == "complete"


@pytest.mark.parametrize("run", ["inline"], indirect=True)
def test_progress_within_an_epoch_resets_the_count_of_attempts(run: Any) -> None:
    folder = run("crash_further_each_time", cells=1)
    positions = [(a["epoch"], a["steps"]) for a in folder.trial(folder.ids()[0]).attempts()]
    assert positions == [(0, steps) for steps in range(1, 6)]
    assert record_of(folder).status == "complete"


@pytest.mark.parametrize("run", IN_PROCESSES, indirect=True)
def test_the_output_of_a_trial_is_in_its_log(run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    folder = run("die", cells=1)
    log = folder.trial(folder.ids()[0]).path / "log.txt"
    assert log.read_text().count("last output") == 3
    assert "last output" not in capfd.readouterr().out


def test_auto_is_the_simplest_runner_that_uses_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", tuple)
    monkeypatch.setattr(machine, "cores", lambda: 8)
    assert choose_runner("auto", RunnerOptions(), num_trials=30) == "local"
    assert choose_runner("auto", RunnerOptions(), num_trials=1) == "inline"
    assert choose_runner("auto", RunnerOptions(workers=1), num_trials=30) == "inline"
    assert choose_runner("auto", RunnerOptions(threads=8), num_trials=30) == "inline"
    assert choose_runner("ray", RunnerOptions(), num_trials=1) == "ray"


def test_all_wrong_options_are_reported_together() -> None:
    with pytest.raises(
        ValueError, match=r"one of auto, inline.*workers must be.*for the runner ray"
    ):
        choose_runner("slurm", RunnerOptions(workers=0, ray_address="here:1"), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="inline has one worker, got 2: use local"):
        choose_runner("inline", RunnerOptions(workers=2), None)


def test_each_worker_sees_only_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: ("GPU-a", "GPU-b"))
    runner = LocalRunner(RunnerOptions(workers=3))
    workers = [runner._label_and_env(i) for i in range(3)]
    assert [label for label, _ in workers] == ["gpu 0", "gpu 1", "gpu 0"]
    assert [env["CUDA_VISIBLE_DEVICES"] for _, env in workers] == ["GPU-a", "GPU-b", "GPU-a"]
    assert LocalRunner(RunnerOptions()).slots == 2


def test_workers_keep_the_memory_of_a_step_unless_the_user_sets_the_allocator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    runner = LocalRunner(RunnerOptions(workers=1))
    assert runner._label_and_env(0)[1]["GLIBC_TUNABLES"] == machine.ALLOCATOR["GLIBC_TUNABLES"]
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    assert runner._label_and_env(0)[1]["GLIBC_TUNABLES"] == "glibc.malloc.check=0"


STEPS = """
import resource
def step():
    for i in range(3):
        blocks = [bytearray(20 << 20) for _ in range(3)]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
before = faults()
step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_the_allocators_settings_keep_memory_between_steps() -> None:
    def faults(tunables: str) -> int:
        command, env = [sys.executable, "-c", STEPS], {**os.environ, "GLIBC_TUNABLES": tunables}
        return int(subprocess.run(command, env=env, check=True, capture_output=True).stdout)

    without_huge_pages = machine.ALLOCATOR["GLIBC_TUNABLES"].replace("hugetlb=1", "hugetlb=0")
    pages = (60 << 20) // resource.getpagesize()
    assert faults(without_huge_pages) < 100 < pages // 2 < faults("")


def test_one_gpu_is_requested_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: ("GPU-a", "GPU-b"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    runner = LocalRunner(RunnerOptions(device="cuda:1"))
    assert runner.slots == 1
    label, env = runner._label_and_env(0)
    assert (label, env["CUDA_VISIBLE_DEVICES"]) == ("gpu 1", "GPU-b")
    # Then the number is in CUDA's order, not nvidia-smi's.
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpus_of(RunnerOptions(device="cuda:1")) == ("1",)
    with pytest.raises(ValueError, match="wanted the GPU cuda:2, there are 2"):
        LocalRunner(RunnerOptions(device="cuda:2"))
    with pytest.raises(ValueError, match=r"Ray assigns GPUs itself.*--runner local"):
        choose_runner("ray", RunnerOptions(device="cuda:1"), None)


def test_a_worker_with_one_gpu_uses_the_gpu_it_sees(run_on_one_gpu: StudyFolder) -> None:
    assert record_of(run_on_one_gpu).device == "cuda, of 7"


@pytest.fixture
def run_on_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    folder = toy.create(tmp_path / "toy", cells=1)
    options: Any = {"runner": "local", "device": "cuda:1", "work": "tests.toy:record_device"}
    run_study(folder, folder.trials(), **options)
    return folder


def test_a_fraction_of_a_gpu_allows_more_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: ("GPU-a", "GPU-b"))
    assert num_workers(RunnerOptions(gpus_per_trial=0.25)) == 8
    assert num_workers(RunnerOptions(gpus_per_trial=2)) == 1
    assert num_workers(RunnerOptions()) == 2


@pytest.mark.parametrize(
    ("visible", "names"), [("0,2", ("0", "2")), ("", ()), ("-1", ()), (" GPU-a ", ("GPU-a",))]
)
def test_visible_gpus_are_those_of_cuda_visible_devices(
    monkeypatch: pytest.MonkeyPatch, visible: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == names


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    free = machine.memory()
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    (tmp_path / "memory.stat").write_text("anon 1100\nactive_file 400\ninactive_file 500\n")
    assert machine.memory() == 3900
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory() == pytest.approx(free, rel=0.5)


def test_workers_share_the_cores_and_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 16)
    monkeypatch.setattr(machine, "memory", lambda: None)
    assert [machine.default_workers(threads, 0) for threads in (1, 4, 32)] == [16, 4, 1]
    monkeypatch.setattr(machine, "memory", lambda: 7 << 30)
    assert machine.default_workers(1, 0) == 5
    assert machine.default_workers(1, 4) == 4


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out-of-memory"),
        (OSError(12, "Cannot allocate memory"), "out-of-memory"),
        (OSError(28, "No space left on device"), "storage"),
        (RuntimeError("unable to open shared memory: Too many open files (24)"), "storage"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "storage"),
        (RuntimeError("image 28 of class (28)"), "crash"),
        (FileNotFoundError(2, "No such file or directory"), "crash"),
        (toy.DataError("x"), "data"),
        (ValueError("x"), "crash"),
    ],
)
def test_the_kind_of_a_failure(error: Exception, kind: str) -> None:
    wrapped = RuntimeError("while saving")
    wrapped.__cause__ = error
    assert failure_kind(error) == failure_kind(wrapped) == kind


def test_work_is_named_by_module_and_function() -> None:
    assert resolve("tests.toy:train") is toy.train
    for bad in ("tests.toy", "tests.toy:", ":train"):
        with pytest.raises(ValueError, match="is named"):
            resolve(bad)
