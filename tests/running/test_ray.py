"""Ray as the runner, beyond the contract that all runners keep (test_runners): how it is started,
who can reach it, and what is said when there is none."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from archsearch.running import runners
from archsearch.running.run import run_study
from archsearch.running.runners import Place
from archsearch.running.runners.on_ray import OnRay, needs_of, num_slots
from tests import toy
from tests.running.test_run import wait_for

ON_LINUX = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's tables")


def python(code: str, **environment: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    env = {**os.environ, **environment}
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env)


STARTED_HERE = """
import os, sys
from archsearch.running.runners import Place
from archsearch.running.runners.on_ray import OnRay, needs_of, num_slots
runner = OnRay(Place(workers=2, device="cpu"))
print(runner.slots, len(os.environ["RAY_AUTH_TOKEN"]), os.environ["RAY_AUTH_MODE"],
      os.environ["RAY_USAGE_STATS_ENABLED"], flush=True)
sys.stdin.readline()
runner.close()
"""


@ON_LINUX
def test_a_ray_of_our_own_listens_on_loopback_only_with_a_token_and_no_statistics(
    tmp_path: Path,
) -> None:
    dead = {"RAY_ADDRESS": "127.0.0.1:1", "HOME": str(tmp_path)}
    with python(STARTED_HERE, **dead) as process:
        assert process.stdout is not None
        told = process.stdout.readline().split()
        tree = descendants(process.pid)
        ours = listening(tree)
        _, said = process.communicate("go\n", timeout=120)
    assert told == ["2", "64", "token", "0"], said
    assert process.returncode == 0
    assert len(ours) >= 3
    assert {address for address in ours if not is_loopback(address)} == set()
    assert not list(tmp_path.iterdir())  # Ray would keep a token there


def descendants(pid: int) -> set[int]:
    """The process and all below it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
    found, more = set[int](), {pid}
    while more:
        found |= more
        more = {child for child, parent in parents.items() if parent in found} - found
    return found


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
    """127.0.0.1, that within IPv6, or ::1, as /proc writes them."""
    return address.endswith("0100007F") or address == "0" * 24 + "01000000"


def test_no_ray_is_told_with_the_way_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"cannot be imported.*--runner local"):
        OnRay(Place())


@pytest.mark.parametrize("address", ["banana", "ray://host", ":6379", "host:"])
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT.*got"):
        OnRay(Place(ray_address=address))


def test_a_dead_address_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ValueError, match=rf"no Ray answers at 127.0.0.1:{port}.*--runner local"):
        OnRay(Place(ray_address=f"127.0.0.1:{port}"))


SILENT = """
import sys
from archsearch.running.runners import Place, on_ray
on_ray.START_SECONDS = 3.0
try:
    on_ray.OnRay(Place(ray_address=sys.stdin.readline().strip()))
except ValueError as error:
    print(error, flush=True)
"""


def test_a_start_that_hangs_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, python(SILENT) as process:
        address = f"127.0.0.1:{server.getsockname()[1]}\n"
        said, errors = process.communicate(address, timeout=120)
    assert "Ray did not start" in said, errors
    assert "--runner local" in said


@pytest.mark.parametrize(
    ("place", "needs", "slots"),
    [
        (Place(), (1, 1.0), 2),
        (Place(gpus_per_trial=0.25), (1, 0.25), 8),
        (Place(gpus_per_trial=0.25, workers=3), (1, 0.25), 3),
        (Place(device="cpu", threads=2), (2, 0.0), 4),
    ],
)
def test_a_cluster_is_filled(place: Place, needs: tuple[int, float], slots: int) -> None:
    have = {"CPU": 8.0, "GPU": 2.0}
    found = needs_of(place, have)
    assert tuple(found.values()) == needs
    assert num_slots(place, have, found) == slots


def test_a_cluster_too_small_is_told() -> None:
    with pytest.raises(ValueError, match="no room for a trial"):
        num_slots(Place(), {"CPU": 1.0}, {"num_cpus": 4, "num_gpus": 0})


def test_a_node_that_does_not_see_the_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"NodeID": node, "Alive": node != "c"} for node in "abc"]
    runner = object.__new__(OnRay)
    runner._ray = SimpleNamespace(nodes=lambda: nodes)

    def ask(node: str, path: Path) -> str:
        return path.read_text() if node == "a" else f"{node}: No such file"

    monkeypatch.setattr(runner, "_ask", ask)
    with pytest.raises(ValueError, match=r"every node of the cluster.*; not so: b: No such file$"):
        runner._probe(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_existing_cluster_is_used_by_its_address(tmp_path: Path) -> None:
    """In a process of its own, since Ray keeps its first settings for good."""
    folder = toy.create(tmp_path / "toy")
    env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "TOY": str(folder.path)}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    options = ["--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}"]
    options += ["--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    ray = str(Path(sys.executable).with_name("ray"))
    nowhere = subprocess.DEVNULL
    command = [ray, "start", *options]
    with subprocess.Popen(
        command, env={**os.environ, **env}, stdout=nowhere, stderr=nowhere
    ) as head:
        wait_for(lambda: answers(port))
        run = "from tests.running import test_ray; test_ray.run_there()"
        with python(run, **env, AT=f"127.0.0.1:{port}") as process:
            said, errors = process.communicate(timeout=300)
        head.terminate()
    assert said == "2 {'complete': 3}\n", errors
    assert toy.metrics(folder) == toy.expected(folder)


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def run_there() -> None:
    folder = toy.create(Path(os.environ["TOY"]))
    options: Any = {"runner": "ray", "ray_address": os.environ["AT"], "work": "tests.toy:train"}
    slots = runners.num_slots("ray", Place(ray_address=os.environ["AT"]))  # as the quote asks
    print(slots, run_study(folder, folder.trials(), **options))
