"""A Ray cluster whose nodes are values: which of them train, and what happens to lost ones."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from archsearch.core.cell import Cell
from archsearch.running.run import StudyStopped, run_study
from archsearch.running.runners import RunnerOptions, on_ray, ray_nodes
from archsearch.running.runners.on_ray import RayRunner
from archsearch.running.runners.software import software
from archsearch.running.work import DEFAULT_WORK, LOST, Job, Outcome, run_attempt
from archsearch.storage.study_folder import StudyFolder
from tests import toy
from tests.families.toy_family import Net
from tests.processes import wait_for
from tests.running.fake_ray import FakeNode, FakeRay, RayError, TaskUnschedulableError

Open = Callable[..., RayRunner]


@pytest.fixture
def open_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """``open_on(ray)`` returns a runner on a fake cluster; its waits are short."""
    monkeypatch.setattr(ray_nodes, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(ray_nodes, "PROBE_SECONDS", 0.2)
    for name in ("LOOK_SECONDS", "SAVE_SECONDS"):
        monkeypatch.setattr(on_ray, name, 0.0)
    monkeypatch.setattr("archsearch.running.runners.flight.REPLY_SECONDS", 0.0)
    runners = list[RayRunner]()

    def open_runner(ray: FakeRay, **options: Any) -> RayRunner:
        monkeypatch.setattr(on_ray, "start", lambda *_: (ray, False))
        runners.append(RayRunner(RunnerOptions(device="cpu", ray_address="head:6379", **options)))
        return runners[-1]

    yield open_runner
    for runner in runners:
        runner.close()


def jobs_of(folder: StudyFolder) -> list[Job]:
    for trial in folder.trials():
        folder.trial(trial.id).write_spec(trial)
    return [Job(str(folder.path), i, "tests.toy:train", "cpu") for i in folder.ids()]


def names(ray: FakeRay) -> list[str]:
    """The nodes of the jobs that were sent."""
    return [task.node.name for task in ray.tasks]


OLDER = {"torch": "2.0.0", "numerics": "0 (layout 1)", "operator": "abc"}


def test_nodes_with_other_software_are_refused_all_together(open_on: Open, tmp_path: Path) -> None:
    ray = FakeRay(
        FakeNode("same"), FakeNode("older", changes=OLDER), FakeNode("apart", sees_folder=False)
    )
    with pytest.raises(ValueError, match="cannot train this study") as refusal:
        open_on(ray).check(tmp_path, toy.study())
    _, older, apart = str(refusal.value).splitlines()
    assert older.startswith("  older (10.0.0.9): it differs from this machine: torch 2.0.0 (here ")
    assert "numerics 0 (layout 1) (here 1 (layout 1)), operator abc (here " in older
    assert apart == (
        f"  apart (10.0.0.9): it does not see the folder {tmp_path} "
        "(FileNotFoundError: no such file)"
    )


def test_allowed_differences_are_noted_in_the_jobs_of_their_node(
    open_on: Open, folder: StudyFolder
) -> None:
    ray = FakeRay(FakeNode("same"), FakeNode("older", changes={"torch": "2.0.0"}))
    runner = open_on(ray, allow_mixed_versions=True)
    for job in jobs_of(folder)[:2]:
        runner.submit(job)
    notes = {task.node.name: task.job["notes"] for task in ray.tasks if task.job}
    assert notes["same"] == ()
    assert "trained on older (10.0.0.9)" in notes["older"][0]
    assert "torch 2.0.0 (here " in notes["older"][0]


def test_the_modules_of_a_users_family_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Net(8, 1)
    cell = Cell({"width": 8}, "exact", net, None)
    study = dataclasses.replace(toy.study(), cells=(cell,))
    assert on_ray.own_modules(study, DEFAULT_WORK) == ["tests.families.toy_family"]
    assert on_ray.own_modules(toy.study(), DEFAULT_WORK) == []

    monkeypatch.syspath_prepend(str(tmp_path))
    digests = set()
    for text in ("width = 1", "width = 2"):
        (tmp_path / "my_net.py").write_text(text)
        digests.add(software(["my_net"])["module my_net"])
    assert len(digests - {"missing"}) == 2
    missing = software(["my_package.net"])
    assert missing["module my_package.net"] == "missing"


def test_a_node_that_cannot_run_our_jobs_is_never_allowed(open_on: Open, tmp_path: Path) -> None:
    ray = FakeRay(FakeNode("older", changes={"job": "study, trial_id"}))
    with pytest.raises(ValueError, match=r"older .*job study, trial_id \(here study, trial_id, w"):
        open_on(ray, allow_mixed_versions=True).check(tmp_path, toy.study())


def test_notes_are_in_the_record_also_if_another_attempt_finishes_it(folder: StudyFolder) -> None:
    job = Job(**{**vars(jobs_of(folder)[0]), "work": "tests.toy:crash", "notes": ("older torch",)})
    assert run_attempt(job).end == "failed"
    for _ in range(2):
        run_attempt(Job(**{**vars(job), "work": "tests.toy:train", "notes": ()}))
    assert toy.record_of(folder.trial(job.trial_id)).notes == ("older torch",)


def test_a_node_that_does_not_answer_is_not_used(
    open_on: Open, folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    ray = FakeRay(FakeNode("silent", cpus=9, answers=False), FakeNode("good"))
    runner = open_on(ray)
    runner.submit(jobs_of(folder)[0])
    assert (names(ray), runner.slots) == (["good"], 1)
    assert "silent (10.0.0.9) does not answer" in caplog.text
    with pytest.raises(ValueError, match="no node answers"):
        open_on(FakeRay(FakeNode("silent", answers=False))).check(folder.path, toy.study())


def test_a_node_that_joins_is_probed_first(
    open_on: Open, folder: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    ray = FakeRay(FakeNode("first"))
    runner, jobs = open_on(ray), jobs_of(folder)
    runner.submit(jobs[0])
    ray.list += [FakeNode("older", changes=OLDER), FakeNode("late")]
    wait_for(lambda: runner.poll(0.01) or runner.slots == 2)
    runner.submit(jobs[1])
    assert names(ray) == ["first", "late"]
    assert "a Ray node is not used: older (10.0.0.9): it differs" in caplog.text


def test_a_cluster_without_a_token_is_reported(
    open_on: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_on(FakeRay(FakeNode("safe"), FakeNode("here", address="127.0.0.1"))).check(
        tmp_path, toy.study()
    )
    assert not caplog.records
    open_on(FakeRay(FakeNode("open", protected=False))).check(tmp_path, toy.study())
    assert "open (10.0.0.9) needs no token" in caplog.text


def test_a_trial_needs_one_node_and_not_the_sum_of_several(open_on: Open) -> None:
    with pytest.raises(ValueError, match=r"no node .*'num_cpus': 2.*'CPU': 3"):
        open_on(FakeRay(FakeNode("a"), FakeNode("b"), FakeNode("c")), threads=2)
    assert open_on(FakeRay(FakeNode("a", cpus=3), FakeNode("b", cpus=3)), threads=2).slots == 2
    assert open_on(FakeRay(FakeNode("a", cpus=9)), workers=3).slots == 3


def test_a_record_ends_a_trial_whose_reply_does_not_come(
    open_on: Open, folder: StudyFolder
) -> None:
    runner, job = open_on(FakeRay(FakeNode("a"))), jobs_of(folder)[0]
    runner.submit(job)
    assert runner.poll(0.0) == []
    run_attempt(job)
    assert runner.poll(0.0) == [Outcome(job.trial_id, "finished")]
    assert runner.poll(0.0) == []


@pytest.mark.parametrize("how", ["the node leaves", "Ray reports its death"])
def test_a_lost_node_keeps_its_trial_while_it_is_at_work(
    open_on: Open, folder: StudyFolder, how: str
) -> None:
    ray, jobs = FakeRay(FakeNode("cut off"), FakeNode("good")), jobs_of(folder)
    runner = open_on(ray)
    for job in jobs[:2]:
        runner.submit(job)
    cut_off = next(task for task in ray.tasks if task.node.name == "cut off")
    assert cut_off.job is not None
    trial = folder.trial(cut_off.job["trial_id"])
    with trial.lock():
        if how == "the node leaves":
            cut_off.node.alive = False
            wait_for(lambda: runner.poll(0.0) or len(runner._nodes.living) == 1)
        else:
            cut_off.reply = RayError("the node died")
        for _ in range(5):
            assert runner.poll(0.0) == []
    [outcome] = runner.poll(0.0)
    assert (outcome.trial_id, outcome.end, outcome.kind) == (trial.id, "failed", "crash")
    assert outcome.error.startswith("worker died: ")


def test_a_node_that_lost_a_trial_gets_another_only_after_an_answer(
    open_on: Open, folder: StudyFolder
) -> None:
    ray, jobs = FakeRay(dying := FakeNode("dying", cpus=8), FakeNode("good")), jobs_of(folder)
    runner = open_on(ray)
    runner.submit(jobs[0])
    dying.answers = False
    ray.tasks[0].reply = RayError("the node died")
    wait_for(lambda: runner.poll(0.0))
    labels = [runner.submit(job) for job in jobs]
    assert labels == ["good (10.0.0.9)", "waits for a node", "waits for a node"]
    assert names(ray) == ["dying", "good"]
    ray.probes[-1].reply = dying.answer(ray.probes[-1].path)
    wait_for(lambda: runner.poll(0.0) or len(ray.tasks) == 4)
    assert names(ray)[2:] == ["dying", "dying"]


def test_a_job_that_its_node_never_had_goes_to_another_node(
    open_on: Open, folder: StudyFolder
) -> None:
    """Ray says so of nodes that just died. It is no failure of the trial."""
    ray, jobs = FakeRay(FakeNode("dead", cpus=2), FakeNode("good")), jobs_of(folder)
    runner = open_on(ray)
    runner.submit(jobs[0])
    ray.list[0].answers = False
    ray.tasks[0].reply = TaskUnschedulableError("the node doesn't exist any more")
    wait_for(lambda: runner.poll(0.0) or len(ray.tasks) == 2)
    assert names(ray) == ["dead", "good"]
    assert runner.slots == 1


def test_a_trial_waits_for_a_node_until_a_stop(open_on: Open, folder: StudyFolder) -> None:
    node, (first, job, _) = FakeNode("a"), jobs_of(folder)
    runner = open_on(FakeRay(node))
    runner.submit(first)
    node.alive = False
    wait_for(lambda: runner.poll(0.0))
    assert (runner.slots, runner.submit(job)) == (1, "waits for a node")
    assert runner.poll(0.0) == []
    runner.request_stop()
    assert runner.poll(0.0) == [Outcome(job.trial_id, "interrupted")]


def test_a_free_node_gets_work_while_another_is_cut_off(open_on: Open, folder: StudyFolder) -> None:
    ray, jobs = FakeRay(FakeNode("cut off"), FakeNode("good")), jobs_of(folder)
    runner = open_on(ray)
    for job in jobs[:2]:
        runner.submit(job)
    by_name = {task.node.name: task for task in ray.tasks}
    cut_off, good = by_name["cut off"], by_name["good"]
    assert cut_off.job is not None
    assert good.job is not None
    with folder.trial(cut_off.job["trial_id"]).lock():
        cut_off.node.alive = False
        good.reply = vars(Outcome(good.job["trial_id"], "finished"))
        wait_for(lambda: [o.end for o in runner.poll(0.0)] == ["finished"])
        wait_for(lambda: runner.poll(0.0) or len(runner._nodes.living) == 1)
        assert runner.slots == 2  # the job that is cut off, and a free slot
        runner.submit(jobs[2])
        assert names(ray)[-1] == "good"


@pytest.mark.parametrize("loss", ["head", "nodes"])
def test_a_lost_cluster_ends_the_study_in_words_and_its_trials_save(
    open_on: Open, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    ray = FakeRay(FakeNode("a"), FakeNode("b"))
    runner = open_on(ray)
    monkeypatch.setattr(on_ray, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(on_ray, "NO_NODE_SECONDS", 0.3)
    monkeypatch.setattr(on_ray, "SAVE_SECONDS", 60.0)
    monkeypatch.setattr("archsearch.running.driver.open_runner", lambda *_: runner)
    stops = list[bool]()

    def lose(_: object) -> None:
        if not ray.tasks or stops:
            return
        ray.head_answers = loss != "head"
        for node in ray.list:
            node.alive = loss != "nodes"
        worker = threading.Thread(target=work_until_stopped, args=(folder, ray, stops))
        worker.start()
        wait_for(lambda: stops)

    with pytest.raises(StudyStopped) as stopped:
        run_study(folder, folder.trials(), runner="ray", ray_address="head:6379", on_change=lose)
    assert stopped.value.exit_code == 143
    reason = {"head": "its head does not answer", "nodes": "it has no usable node left"}[loss]
    assert f"stopped: lost the Ray cluster at head:6379: {reason}" in str(stopped.value)
    assert "Resume with: archsearch toy" in str(stopped.value)
    assert stops == [False, True]
    assert not folder.records(folder.ids())
    assert not list(folder.path.glob(".tmp-*"))


def work_until_stopped(folder: StudyFolder, ray: FakeRay, stops: list[bool]) -> None:
    """Hold a trial's lock until the file that requests a stop appears."""
    assert ray.tasks[0].job is not None
    with folder.trial(ray.tasks[0].job["trial_id"]).lock():
        stops.append(bool(list(folder.path.glob(".tmp-stop-*"))))
        wait_for(lambda: list(folder.path.glob(".tmp-stop-*")))
        stops.append(True)


def test_a_refused_cluster_leaves_no_folder(
    open_on: Open, run_cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del open_on
    ray = FakeRay(FakeNode("older", changes=OLDER), FakeNode("open", protected=False))
    monkeypatch.setattr(on_ray, "start", lambda *_: (ray, False))
    out = tmp_path / "deep" / "run"
    options = ["--runner", "ray", "--ray-address", "head:6379", "--out", str(out)]
    code, _, errors = run_cli("grid", "--budget", "0.3M", "--c1", "8", *options)
    assert code == 2
    assert "older (10.0.0.9): it differs from this machine: torch 2.0.0" in errors
    assert "--allow-mixed-versions" in errors
    assert not list(tmp_path.iterdir())


def test_mixed_versions_are_for_ray(run_cli: Any) -> None:
    code, _, errors = run_cli("grid", "--budget", "0.3M", "--allow-mixed-versions")
    assert (code, "allow_mixed_versions needs the runner ray, got the runner auto" in errors) == (
        2,
        True,
    )


PROBE = """
import json, sys
from ray import cloudpickle
from archsearch.running.runners import software
cloudpickle.register_pickle_by_value(software)
sys.stdout.buffer.write(cloudpickle.dumps(software.probe))
"""
ANSWER = """
import json, pickle, sys
print(json.dumps(pickle.load(sys.stdin.buffer)(sys.argv[1], ['my_net'])))
"""


def test_a_probe_runs_on_another_version_of_this_code(tmp_path: Path) -> None:
    package = tmp_path / "archsearch"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "study.py").write_text("SCHEMA, NUMERICS = 1, 7\n")
    (tmp_path / "numpy-0.1.dist-info").mkdir()
    (tmp_path / "numpy-0.1.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 0.1\n")
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=True).stdout
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", ANSWER, str(package / "study.py")]
    answer = subprocess.run(
        command, input=probe, capture_output=True, check=True, env=env, cwd=tmp_path
    )
    node = json.loads(answer.stdout)
    assert node["content"] == "SCHEMA, NUMERICS = 1, 7\n"
    names = ("numerics", "numpy", "job", "module my_net")
    assert [node["software"][name] for name in names] == [
        "7 (layout 1)",
        "0.1",
        "missing",
        "missing",
    ]


def test_the_code_that_trains_is_compared_and_not_the_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from archsearch.running.runners.software import _digest

    package = tmp_path / "some_package"
    for name in ("__init__.py", "reports/page.py", "csrc/kernel.cu", "train.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("1")
    monkeypatch.syspath_prepend(str(tmp_path))
    digests = [_digest("some_package")]
    for name in ("reports/page.py", "csrc/kernel.cu", "train.py"):
        (package / name).write_text("2")
        digests.append(_digest("some_package"))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert _digest("no_such_package") == "missing"


def test_the_outcome_of_a_lost_cluster_is_no_failure(open_on: Open, folder: StudyFolder) -> None:
    ray = FakeRay(FakeNode("a"))
    runner, jobs = open_on(ray), jobs_of(folder)
    for job in jobs[:2]:
        runner.submit(job)
    run_attempt(jobs[0])
    runner._lose_cluster("its head does not answer")
    outcomes = {outcome.trial_id: outcome for outcome in runner.poll(0.0)}
    assert outcomes[jobs[0].trial_id].end == "finished"
    lost = outcomes[jobs[1].trial_id]
    assert (lost.end, lost.kind) == ("interrupted", LOST)
