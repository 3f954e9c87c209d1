"""The nodes of a Ray cluster: which of them may train, and how many trials fit on each.

The runner chooses the node of every trial. So a node trains only after it has answered a probe,
also one that joins later or comes back, and the trials of a node that dies are known.
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from archsearch.running.runners import RunnerOptions
from archsearch.running.runners.software import Answer, judge, probe, software
from archsearch.storage.files import TEMP_PREFIX, log

PROBE_SECONDS = 45.0
"""How long a node of a new run may take to answer; it starts a worker for that."""

WATCH_SECONDS = 1.0
"""How often the list of living nodes is read from the head."""

CLOSE_SECONDS = 2.0

REFUSED = (
    "the Ray cluster cannot train this study. Install the same software on every node, or use "
    "--allow-mixed-versions to note differences of versions in the records:"
)
UNPROTECTED = (
    "the Ray node %s needs no token: everyone who reaches its ports can run programs on it. "
    "docs/cluster.md says how to start a cluster with a token"
)


def needs_of(options: RunnerOptions, resources: Mapping[str, float]) -> dict[str, float]:
    """CPUs and GPUs of one trial: one GPU if the cluster has any, or the requested fraction."""
    gpus = options.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if options.device != "cpu" and resources.get("GPU", 0) > 0 else 0.0
    return {"num_cpus": options.threads, "num_gpus": gpus}


def slots_of(resources: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """How many trials fit on a node. A trial with a fraction of a GPU uses a single one."""
    fits = int(resources.get("CPU", 0) / needs["num_cpus"])
    gpus, share = resources.get("GPU", 0.0), needs["num_gpus"]
    if share:
        fits = min(fits, int(1 / share) * int(gpus) if share < 1 else int(gpus / share))
    return fits


@dataclass
class Node:
    """A node, how many trials fit on it, and what its records note."""

    id: str
    name: str
    slots: int
    is_local: bool
    usable: bool = True
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, node: Mapping[str, Any], needs: Mapping[str, float]) -> "Node":
        """The node that Ray describes."""
        address = node["NodeManagerAddress"]
        name = f"{node['NodeManagerHostname']} ({address})"
        slots = slots_of(node["Resources"], needs)
        return cls(node["NodeID"], name, slots, address.startswith("127."))


class Watch:
    """Reads the list of living nodes in a thread, because a dead head never answers."""

    def __init__(self, living_nodes: Callable[[], list[dict[str, Any]]]) -> None:
        self._living_nodes = living_nodes
        self._ended = threading.Event()
        self.num_answers = 0
        self.nodes = living_nodes()
        self._thread = threading.Thread(target=self._run, name="ray-nodes", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(WATCH_SECONDS):
            try:
                self.nodes = self._living_nodes()
            except Exception as error:  # noqa: BLE001  Ray raises many; silence is what counts
                log.debug("Ray's head: %s", error)
            else:
                self.num_answers += 1

    def close(self) -> None:
        """End the thread, or leave it if a dead head keeps it."""
        self._ended.set()
        self._thread.join(CLOSE_SECONDS)


class Nodes:
    """The living nodes. `check` probes them before the first trial, `refresh` those that join."""

    def __init__(self, ray: Any, options: RunnerOptions, trusted: bool) -> None:
        """``trusted`` nodes need no probe: they are this machine and this environment.

        Raises:
            ValueError: the cluster is too small for one trial.
        """
        self._ray, self._trusted = ray, trusted
        # One function for all probes: Ray sends each new one to the head, and waits for it.
        self._remote = ray.remote(max_retries=0, num_cpus=0)(probe)
        self._allow_mixed = options.allow_mixed_versions
        resources = ray.cluster_resources()
        self.needs = needs_of(options, resources)
        self._by_id: dict[str, Node] = {}
        self._probes: dict[Any, Node] = {}
        self._probe_file: Path | None = None
        self._modules = tuple[str, ...]()
        self._software = dict[str, str]()
        self.watch = Watch(lambda: [node for node in ray.nodes() if node["Alive"]])
        self._read_list()
        if not self.living:
            self.close()
            raise ValueError(
                f"no node of the Ray cluster has enough for a trial: a trial needs {self.needs}, "
                f"the cluster has {dict(resources)}"
            )

    @property
    def living(self) -> list[Node]:
        """The nodes on which trials fit, usable or not."""
        return list(self._by_id.values())

    @property
    def usable(self) -> list[Node]:
        """The living nodes that have answered a probe, or need none."""
        return [node for node in self.living if node.usable]

    def lives(self, node: Node) -> bool:
        return node.id in self._by_id

    def _read_list(self) -> list[Node]:
        """Update the living nodes; returns the new ones. A node that comes back has a new id."""
        nodes = (Node.of(node, self.needs) for node in self.watch.nodes)
        fitting = {node.id: node for node in nodes if node.slots}
        new = [node for i, node in fitting.items() if i not in self._by_id]
        self._by_id = {i: self._by_id.get(i, node) for i, node in fitting.items()}
        return new

    def refresh(self) -> None:
        """Take the newest list of nodes; those that joined are probed, and used if they fit."""
        new = self._read_list()
        if self._trusted or self._probe_file is None:
            return
        for node in new:
            self._send_probe(node)
        for problem in self._take_answers(timeout=0):
            log.warning("a Ray node is not used: %s", problem)

    def check(self, folder: Path, modules: Sequence[str]) -> None:
        """Probe every node before the first trial; from then on new nodes are probed, too.

        ``modules`` are the user's own that train. Nodes that do not answer are not used, with a
        warning.

        Raises:
            ValueError: a node does not see ``folder``, or has other software than this machine
                and that is not allowed, or no node answers; the message has all problems.
        """
        if self._trusted:
            return
        self._modules, self._software = tuple(modules), software(modules)
        self._probe_file = folder / f"{TEMP_PREFIX}probe-{secrets.token_hex(8)}"
        try:
            self._probe_file.write_text(self._probe_file.name)
        except OSError as error:
            raise ValueError(
                f"cannot write in {folder}: {error.strerror}. Choose another folder with --out"
            ) from error
        for node in self.living:
            self._send_probe(node)
        started, problems = time.monotonic(), list[str]()
        while self._probes and time.monotonic() - started < PROBE_SECONDS:
            problems += self._take_answers(timeout=0.1)
        for node in self._probes.values():
            log.warning("the Ray node %s does not answer and is not used", node.name)
        if not problems and not self.usable:
            problems.append("no node answers")
        if problems:
            raise ValueError(REFUSED + "".join(f"\n  {problem}" for problem in problems))

    def doubt(self, node: Node) -> None:
        """Use ``node``, which lost a trial, only after it has answered again.

        Ray notices the death of a node late: until then it would get, and lose, trial after trial.
        """
        if not self._trusted and self.lives(node) and node.usable:
            self._send_probe(node)

    def _send_probe(self, node: Node) -> None:
        node.usable = False
        on_node = self._remote.options(scheduling_strategy=only_on(node))
        self._probes[on_node.remote(str(self._probe_file), self._modules)] = node

    def _take_answers(self, timeout: float) -> list[str]:
        """The problems of the nodes that have answered by now; nodes without problems are used."""
        problems = list[str]()
        if self._probes:
            ready, _ = self._ray.wait(list(self._probes), num_returns=1, timeout=timeout)
            for ref in ready:
                problems += self._take_answer(self._probes.pop(ref), ref)
        return problems

    def _take_answer(self, node: Node, ref: Any) -> list[str]:
        assert self._probe_file is not None
        try:
            answer = Answer(**self._ray.get(ref))
        except self._ray.exceptions.RayError as error:
            log.warning("the Ray node %s is not used: %s", node.name, first_line(error))
            return []
        problems, different = judge(answer, self._probe_file, self._software, self._allow_mixed)
        node.usable = not problems
        if different:
            node.notes = (f"trained on {node.name}, not as planned: {', '.join(different)}",)
        if not answer.protected and not node.is_local:
            warn_once(node.name)
        return [f"{node.name}: {problem}" for problem in problems]

    def close(self) -> None:
        self.watch.close()
        if self._probe_file is not None:
            self._probe_file.unlink(missing_ok=True)


@cache
def warn_once(name: str) -> None:
    """Warn of a node without a token; a study connects several times."""
    log.warning(UNPROTECTED, name)


def only_on(node: Node) -> Any:
    """Ray's strategy to run a task on ``node`` and nowhere else."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node.id, soft=False)


def first_line(error: Exception) -> str:
    """Type and first line of an error of Ray, whose messages are long."""
    lines = str(error).splitlines()
    return ": ".join((type(error).__name__, *lines[:1]))
