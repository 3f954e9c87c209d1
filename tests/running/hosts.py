"""Hosts on one network, each a Linux network namespace: a Ray cluster that can be cut and killed.

The hosts share the file system, as the nodes of a cluster do. Host 0 is the head.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
TOKEN = "0" * 64
HEAD = "10.99.0.1:6379"
RAY = (sys.executable, "-m", "ray.scripts.scripts", "start")


def why_not() -> str:
    """Why this machine cannot have such hosts; empty if it can."""
    if shutil.which("ip") is None:
        return "the program ip is missing"
    probe = f"probe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode == 0:
        subprocess.run(["ip", "netns", "del", probe], check=True)
    return made.stderr.strip()


class Hosts:
    """Hosts 0, 1, ... at 10.99.0.1, 10.99.0.2, ... on a switch. Use it as a context."""

    def __init__(self, count: int = 3) -> None:
        self._prefix, self._count = f"h{os.getpid() % 100_000}n", count
        self._temp = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets need short paths
        self._switch = f"{self._prefix}s"
        self._nodes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Hosts":
        _run("ip", "netns", "add", self._switch)
        self._on_switch("ip", "link", "add", "br0", "type", "bridge")
        self._on_switch("ip", "link", "set", "br0", "up")
        for host in range(self._count):
            self._plug_in(host)
        return self

    def _plug_in(self, host: int) -> None:
        name = self._name(host)
        link = ("ip", "link", "add", "eth0", "netns", name, "type", "veth")
        _run("ip", "netns", "add", name)
        _run(*link, "peer", "name", f"port{host}", "netns", self._switch)
        self._on_switch("ip", "link", "set", f"port{host}", "master", "br0", "up")
        for command in (f"addr add {self.address(host)}/24 dev eth0", "link set eth0 up"):
            _run("ip", "-n", name, *command.split())
        _run("ip", "-n", name, "link", "set", "lo", "up")

    def _name(self, host: int) -> str:
        return f"{self._prefix}{host}"

    def _on_switch(self, *command: str) -> None:
        _run("ip", "netns", "exec", self._switch, *command)

    def address(self, host: int) -> str:
        return f"10.99.0.{host + 1}"

    def command(self, host: int, *command: str) -> list[str]:
        """The command line that runs ``command`` on a host."""
        return ["ip", "netns", "exec", self._name(host), *command]

    def environment(self, **more: str) -> dict[str, str]:
        ray = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
        ray |= {"OMP_NUM_THREADS": "1"}
        return {**os.environ, **ray, "PYTHONPATH": str(REPOSITORY), **more}

    def start_ray(self, host: int, **environment: str) -> None:
        """Start a node of the cluster with one CPU."""
        head = ["--head", "--port=6379", "--include-dashboard=false", f"--temp-dir={self._temp}"]
        options = ["--disable-usage-stats", "--num-cpus=1", "--object-store-memory=80000000"]
        options += ["--block", f"--node-ip-address={self.address(host)}"]
        where = head if host == 0 else [f"--address={HEAD}"]
        with (self._temp / f"node{host}.log").open("a") as log:
            node = subprocess.Popen(
                self.command(host, *RAY, *where, *options), stdout=log, stderr=log,
                env=self.environment(**environment), start_new_session=True,
            )  # fmt: skip
        self._nodes.append(node)

    def num_nodes(self) -> int:
        """How many nodes the head counts as alive."""
        code = (
            f"import ray; ray.init(address='{HEAD}', logging_level='ERROR', log_to_driver=False); "
            "print(sum(node['Alive'] for node in ray.nodes()))"
        )
        command = self.command(0, sys.executable, "-c", code)
        kwargs: dict[str, Any] = {"capture_output": True, "text": True, "env": self.environment()}
        answer = subprocess.run(command, **kwargs, check=False).stdout
        return int(answer) if answer.strip().isdigit() else 0

    def is_running(self, host: int) -> bool:
        return bool(self._pids(host))

    def _pids(self, host: int) -> set[int]:
        return {int(pid) for pid in _run("ip", "netns", "pids", self._name(host)).split()}

    def kill(self, host: int, spare: Iterable[int] = ()) -> None:
        """Kill every process of a host, as a power cut would; ``spare`` are on another machine."""
        for pid in self._pids(host) - set(spare):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def cut_off(self, host: int) -> None:
        self._on_switch("ip", "link", "set", f"port{host}", "down")

    def reconnect(self, host: int) -> None:
        self._on_switch("ip", "link", "set", f"port{host}", "up")

    def __exit__(self, *_: object) -> None:
        namespaces = _run("ip", "netns", "list").split()
        for host in range(self._count):
            if self._name(host) in namespaces:
                self.kill(host)
                _run("ip", "netns", "del", self._name(host))
        _run("ip", "netns", "del", self._switch)
        for node in self._nodes:
            node.wait()
        shutil.rmtree(self._temp, ignore_errors=True)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
