"""Runs trials as Ray core tasks, on a Ray that is started here or on a cluster by its address.

Ray only carries jobs to nodes and replies back. Its own retries are off (``max_retries=0``),
because only the driver, which counts attempts, may repeat a trial. Tasks return plain values,
because Ray renames exceptions. A reply may be late by minutes, or never come: then the disk, which
all nodes share, says how a trial ended. As long as its lock is held, a node is at work on it, also
one that is cut off.
"""

import secrets
import threading
import time
from collections import Counter, deque
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from archsearch.core.by_file import source_of
from archsearch.running.runners import RunnerOptions
from archsearch.running.runners.flight import Flight, Silence, trial_folder
from archsearch.running.runners.ray_nodes import Node, Nodes, first_line, only_on
from archsearch.running.runners.ray_start import start
from archsearch.running.work import LOST, Job, Outcome, failure_kind, run_logged_attempt
from archsearch.storage.files import TEMP_PREFIX
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Study

STOP_POLL_SECONDS = 0.5
LOOK_SECONDS = 1.0
"""How often the files of the trials at work are read."""

SILENT_SECONDS = 30.0
"""How long the head may be silent; Ray itself waits for a minute."""

NO_NODE_SECONDS = 60.0
"""How long the cluster may be without a usable node."""

SAVE_SECONDS = 20.0
"""How long trials may take to save after the cluster is lost."""


def run_remotely(job: dict[str, Any], stop_file: str) -> dict[str, str]:
    """Run one attempt in a Ray worker; a file, which every node sees, requests a stop."""
    last_poll = 0.0

    def stop() -> bool:
        nonlocal last_poll
        now = time.monotonic()
        if now - last_poll < STOP_POLL_SECONDS:
            return False
        last_poll = now
        return Path(stop_file).exists()

    return asdict(run_logged_attempt(Job(**job), stop))


def own_modules(study: Study, work: str) -> list[str]:
    """The modules outside this package that train a study: of its families, its task, its work.

    Families of a file are read from the run's folder.
    """
    families = {family.__module__ for family in study.families if source_of(family) is None}
    modules = families | {type(study.task).__module__, work.partition(":")[0]}
    return sorted(name for name in modules if name.partition(".")[0] != "archsearch")


class RayRunner:
    """See the module docstring; the contract is `archsearch.running.runners.Runner`."""

    def __init__(self, options: RunnerOptions) -> None:
        """Start Ray or connect to it.

        Raises:
            ValueError: Ray is not available, after at most a minute, or too small for a trial; the
                message names the runner that works without it.
        """
        self._options = options
        self._closed = threading.Event()
        self._stop_name = f"{TEMP_PREFIX}stop-{secrets.token_hex(8)}"
        self._study: Path | None = None
        self._waiting = deque[Job]()
        self._flights: list[Flight] = []
        self._stopping = False
        self._lost_at: float | None = None
        self._lost_error, self._num_answers, self._looked_at = "", 0, 0.0
        self._head_silence, self._node_silence = Silence(), Silence()
        self._ray, self._started_here = start(options, self._closed)
        own = self._started_here and options.ray_address is None
        try:
            self._nodes = Nodes(self._ray, options, trusted=own)
        except ValueError:
            self._disconnect()
            raise
        self._remote = self._ray.remote(max_retries=0, **self._nodes.needs)(run_remotely)

    @property
    def slots(self) -> int:
        """The jobs taken, and the free slots; at least one job may wait for a node to return."""
        taken = len(self._flights) + len(self._waiting)
        return max(1, taken + max(0, self._num_free() - len(self._waiting)))

    def _num_free(self) -> int:
        busy = sum(self._nodes.lives(flight.node) for flight in self._flights)
        fits = sum(node.slots for node in self._nodes.usable)
        return min(fits, self._options.workers or fits) - busy

    def check(self, folder: Path, study: Study) -> None:
        """Check that every node may train ``study`` in ``folder``; see `Nodes.check`."""
        self._nodes.check(folder, own_modules(study, self._options.work))

    def submit(self, job: Job) -> str:
        if self._study is None:
            self._study = Path(job.study)
            self.check(self._study, StudyFolder(self._study).study())
        self._waiting.append(job)
        self._send_waiting()
        nodes = (flight.node for flight in self._flights if flight.job == job)
        return next((node.name for node in nodes), "waits for a node")

    def _send_waiting(self) -> None:
        """Send the waiting jobs that fit, each to the node with the most free slots."""
        while self._waiting and self._num_free() > 0:
            busy = Counter(flight.node.id for flight in self._flights)
            free = {node.id: node.slots - busy[node.id] for node in self._nodes.usable}
            node = max(self._nodes.usable, key=lambda node: free[node.id])
            self._send(self._waiting.popleft(), node)

    def _send(self, job: Job, node: Node) -> None:
        assert self._study is not None
        on_node = self._remote.options(scheduling_strategy=only_on(node))
        noted = replace(job, notes=node.notes)
        ref = on_node.remote(asdict(noted), str(self._study / self._stop_name))
        self._flights.append(Flight(job, node, ref))

    def poll(self, seconds: float) -> list[Outcome]:
        if self._lost_at is not None:
            return self._save_without_cluster(seconds)
        self._nodes.refresh()
        outcomes = self._end_waiting() if self._stopping else []
        self._send_waiting()
        outcomes += [*self._replies(0 if outcomes else seconds), *self._outcomes_on_disk()]
        self._listen()
        return outcomes

    def _end_waiting(self) -> list[Outcome]:
        """After a request to stop: jobs that wait for a node do not start."""
        jobs, self._waiting = self._waiting, deque()
        return [Outcome(job.trial_id, "interrupted") for job in jobs]

    def _listen(self) -> None:
        """Notice the loss of the cluster: a silent head, or no usable node."""
        num_answers = self._nodes.watch.num_answers
        answered, self._num_answers = num_answers > self._num_answers, num_answers
        self._head_silence.add(answered=answered)
        self._node_silence.add(answered=bool(self._nodes.usable))
        if self._head_silence.seconds > SILENT_SECONDS:
            self._lose_cluster("its head does not answer")
        elif self._node_silence.seconds > NO_NODE_SECONDS:
            self._lose_cluster("it has no usable node left")

    def _replies(self, seconds: float) -> list[Outcome]:
        """The outcomes that nodes reported; waits for the first one."""
        flights = {flight.ref: flight for flight in self._flights if flight.lost is None}
        if not flights:
            time.sleep(seconds)
            return []
        refs = list(flights)
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=seconds)
        if ready:  # and the others that have ended by now
            ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        outcomes = [self._reply(flights[ref]) for ref in ready]
        return [outcome for outcome in outcomes if outcome is not None]

    def _reply(self, flight: Flight) -> Outcome | None:
        """The outcome that the node reported; None if its worker died, or never had the job."""
        try:
            outcome = Outcome(**self._ray.get(flight.ref))
        except self._ray.exceptions.RayError as error:
            self._nodes.doubt(flight.node)
            self._looked_at = 0.0
            if isinstance(error, self._ray.exceptions.TaskUnschedulableError):
                self._flights.remove(flight)
                self._waiting.appendleft(flight.job)
            else:
                flight.lose(failure_kind(error), first_line(error), str(error))
            return None
        self._flights.remove(flight)
        return outcome

    def _outcomes_on_disk(self) -> list[Outcome]:
        """The outcomes of trials whose reply is late or will never come."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return []
        self._looked_at = time.monotonic()
        for flight in self._flights:
            if flight.lost is None and not self._nodes.lives(flight.node):
                flight.lose("crash", f"the node {flight.node.name} left the cluster")
        outcomes = [flight.on_disk() for flight in self._flights]
        pairs = zip(self._flights, outcomes, strict=True)
        self._flights = [flight for flight, outcome in pairs if outcome is None]
        return [outcome for outcome in outcomes if outcome is not None]

    def _lose_cluster(self, reason: str) -> None:
        """Request all trials to save: Ray would end this process, and no reply will come."""
        address = self._options.ray_address or "this machine"
        self._lost_error = f"lost the Ray cluster at {address}: {reason}"
        self._lost_at = time.monotonic()
        self.request_stop()

    def _save_without_cluster(self, seconds: float) -> list[Outcome]:
        """The outcomes after the loss of the cluster: trials finish, or save and stop."""
        assert self._lost_at is not None
        time.sleep(seconds)
        if time.monotonic() - self._lost_at < SAVE_SECONDS and any(
            flight.is_at_work() for flight in self._flights
        ):
            return []
        jobs = [*(flight.job for flight in self._flights), *self._waiting]
        self._flights, self._waiting = [], deque()
        return [self._without_cluster(job) for job in jobs]

    def _without_cluster(self, job: Job) -> Outcome:
        if trial_folder(job).record_summary() is not None:
            return Outcome(job.trial_id, "finished")
        return Outcome(job.trial_id, "interrupted", LOST, self._lost_error)

    def request_stop(self) -> None:
        self._stopping = True
        if self._study is not None:
            (self._study / self._stop_name).touch()

    def close(self) -> None:
        for flight in self._flights if self._lost_at is None else []:
            self._ray.cancel(flight.ref, force=True)
        self._flights, self._waiting = [], deque()
        self._nodes.close()
        self._disconnect()
        if self._study is not None:
            (self._study / self._stop_name).unlink(missing_ok=True)

    def _disconnect(self) -> None:
        if self._started_here:
            self._ray.shutdown()
        self._closed.set()
