"""Ray as the runner, beyond the contract of all runners (test_runners): its start, its network
access, and the errors if it is not available."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from archsearch.running import runners
from archsearch.running.run import run_study
from archsearch.running.runners import RunnerOptions
from archsearch.running.runners.on_ray import RayRunner
from archsearch.running.runners.ray_nodes import needs_of, slots_of
from tests import toy
from tests.processes import Process, wait_for

ON_LINUX = pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="reads Linux's tables of connections"
)


def python(code: str, **environment: str) -> Process:
    pipe = subprocess.PIPE
    env = {**os.environ, **environment}
    command = [sys.executable, "-c", code]
    return Process(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env)


STARTED_HERE = """
import os, sys
from archsearch.running.runners import RunnerOptions
from archsearch.running.runners.on_ray import RayRunner
runner = RayRunner(RunnerOptions(workers=2, device="cpu"))
print(runner.slots, len(os.environ["RAY_AUTH_TOKEN"]), os.environ["RAY_AUTH_MODE"],
      os.environ["RAY_USAGE_STATS_ENABLED"], flush=True)
sys.stdin.readline()
runner.close()
"""


@ON_LINUX
@pytest.mark.parametrize("before", ["", "import ray"])  # a notebook may have imported Ray
def test_a_ray_started_here_listens_on_loopback_only_with_a_token_and_no_statistics(
    tmp_path: Path, before: str
) -> None:
    dead = {"RAY_ADDRESS": "127.0.0.1:1", "HOME": str(tmp_path)}
    with python(before + STARTED_HERE, **dead) as process:
        assert process.stdout is not None
        settings = process.stdout.readline().split()
        tree = descendants(process.pid)
        addresses = listening(tree)
        _, errors = process.communicate("go\n", timeout=120)
    assert settings == ["2", "64", "token", "0"], errors
    assert process.returncode == 0
    assert len(addresses) >= 3
    assert {address for address in addresses if not is_loopback(address)} == set()
    assert not list(tmp_path.iterdir())  # Ray would store a token there


def descendants(pid: int) -> set[int]:
    """The process, its children, and theirs."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
    tree, more = set[int](), {pid}
    while more:
        tree |= more
        more = {child for child, parent in parents.items() if parent in tree} - tree
    return tree


def listening(pids: set[int]) -> list[str]:
    """The addresses, in hexadecimal, at which these processes listen."""
    inodes = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").glob("*"):
            inodes.add(str(fd.readlink()) if fd.is_symlink() else "")
    tables = (Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6"))
    rows = [line.split() for table in tables for line in table]
    return [
        row[1].partition(":")[0]
        for row in rows
        if row[3] == "0A" and f"socket:[{row[9]}]" in inodes
    ]


def is_loopback(address: str) -> bool:
    """127.0.0.1, the same in IPv6, or ::1, as /proc writes them."""
    return address.endswith("0100007F") or address == "0" * 24 + "01000000"


def test_the_error_without_ray_names_a_runner_that_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"cannot be imported.*--runner local"):
        RayRunner(RunnerOptions())


@pytest.mark.parametrize("address", ["banana", "ray://host", ":6379", "host:"])
def test_a_wrong_address_is_reported(address: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT.*got"):
        RayRunner(RunnerOptions(ray_address=address))


def test_a_dead_address_is_reported_immediately() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ValueError, match=rf"no Ray answers at 127.0.0.1:{port}.*--runner local"):
        RayRunner(RunnerOptions(ray_address=f"127.0.0.1:{port}"))


SILENT = """
import sys
from archsearch.running.runners import RunnerOptions, on_ray, ray_start
ray_start.START_SECONDS = 3.0
try:
    on_ray.RayRunner(RunnerOptions(ray_address=sys.stdin.readline().strip()))
except ValueError as error:
    print(error, flush=True)
"""


def test_a_start_that_hangs_is_abandoned() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, python(SILENT) as process:
        address = f"127.0.0.1:{server.getsockname()[1]}\n"
        output, errors = process.communicate(address, timeout=120)
    assert "Ray did not start" in output, errors
    assert "--runner local" in output


@pytest.mark.parametrize(
    ("options", "needs", "slots"),
    [
        (RunnerOptions(), (1, 1.0), 2),
        (RunnerOptions(gpus_per_trial=0.25), (1, 0.25), 8),
        (RunnerOptions(gpus_per_trial=0.4), (1, 0.4), 4),  # two on each GPU, none across both
        (RunnerOptions(gpus_per_trial=2), (1, 2), 1),
        (RunnerOptions(device="cpu", threads=2), (2, 0.0), 4),
        (RunnerOptions(device="cpu", threads=9), (9, 0.0), 0),
    ],
)
def test_a_node_is_filled(options: RunnerOptions, needs: tuple[int, float], slots: int) -> None:
    resources = {"CPU": 8.0, "GPU": 2.0}
    by_name = needs_of(options, resources)
    assert tuple(by_name.values()) == needs
    assert slots_of(resources, by_name) == slots


@pytest.mark.slow
def test_an_existing_cluster_is_used_by_its_address(tmp_path: Path) -> None:
    """In a separate process, because Ray keeps its first settings."""
    folder = toy.create(tmp_path / "toy")
    env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "TOY": str(folder.path)}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    options = ["--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}"]
    options += ["--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    null = subprocess.DEVNULL
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
    with Process(command, env={**os.environ, **env}, stdout=null, stderr=null) as head:
        wait_for(lambda: answers(port))
        run = "from tests.running import test_ray; test_ray.run_on_cluster()"
        with python(run, **env, AT=f"127.0.0.1:{port}") as process:
            output, errors = process.communicate(timeout=300)
        head.terminate()
    assert output == "2 {'complete': 3}\n", errors
    assert toy.results(folder) == toy.expected_results(folder)


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def run_on_cluster() -> None:
    folder = toy.create(Path(os.environ["TOY"]))
    options: Any = {"runner": "ray", "ray_address": os.environ["AT"], "work": "tests.toy:train"}
    slots = runners.num_slots(
        "ray", RunnerOptions(ray_address=os.environ["AT"])
    )  # as the estimate does
    print(slots, run_study(folder, folder.trials(), **options))
