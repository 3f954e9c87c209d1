"""Runs trials as Ray core tasks, on a Ray that is started here or on a cluster by its address.

Ray's own retries are off, because only the driver, which counts attempts, may repeat them. Tasks
return plain values, because Ray renames exceptions. Behavior of Ray 2.60 that was observed, and
what this module does about it: it retries a killed worker four times (``max_retries=0``), hangs on
a dead address (checked first, and with a timeout), listens on every interface if clusters are
allowed on this system (they are not), sends usage statistics (off), and prints worker deaths to
stdout (logged instead).
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from archsearch.running.runners import RunnerOptions, gpus_of, num_workers
from archsearch.running.work import Job, Outcome, failure_kind, log_tail, run_logged_attempt
from archsearch.storage.files import TEMP_PREFIX, log
from archsearch.storage.study_folder import StudyFolder

START_SECONDS = 45.0
"""A start takes 3-6 s; one that hangs is abandoned within a minute."""

CONNECT_SECONDS = 5.0
STOP_POLL_SECONDS = 0.5
OBJECT_STORE_BYTES = 78_643_200
"""The least that Ray accepts: no large object passes through it."""

ALTERNATIVE = "--runner local needs no Ray"

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 0: a Ray of this machine alone, on loopback
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def run_remotely(job: dict[str, str], stop_file: str) -> dict[str, str]:
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


def read_probe(path: str) -> str:
    """The content of the probe file ``path`` as this node reads it, or the error."""
    try:
        return Path(path).read_text()
    except OSError as error:
        return f"{socket.gethostname()}: {error}"


def needs_of(options: RunnerOptions, resources: Mapping[str, float]) -> dict[str, float]:
    """CPUs and GPUs of one trial: one GPU if the cluster has any, or the requested fraction."""
    gpus = options.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if options.device != "cpu" and resources.get("GPU", 0) > 0 else 0.0
    return {"num_cpus": options.threads, "num_gpus": gpus}


def num_slots(
    options: RunnerOptions, resources: Mapping[str, float], needs: Mapping[str, float]
) -> int:
    """How many trials fit at a time, at most ``options.workers``.

    Raises:
        ValueError: the cluster is too small for one trial.
    """
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    fits = min(int(resources.get(names[key], 0) / need) for key, need in needs.items() if need)
    if fits < 1:
        raise ValueError(f"Ray has {dict(resources)}, too little for a trial: {dict(needs)}")
    return fits if options.workers is None else min(fits, options.workers)


class RayRunner:
    """See the module docstring; the contract is `archsearch.running.runners.Runner`."""

    def __init__(self, options: RunnerOptions) -> None:
        """Start Ray or connect to it.

        Raises:
            ValueError: Ray is not available, after at most a minute; the message names the
                runner that works without it.
        """
        self._options = options
        self._closed = threading.Event()
        self._stop_name = f"{TEMP_PREFIX}stop-{secrets.token_hex(8)}"
        self._study: Path | None = None
        self._tasks: dict[Any, Job] = {}
        self._ray = self._start()
        resources = self._ray.cluster_resources()
        needs = needs_of(options, resources)
        self._remote = self._ray.remote(max_retries=0, **needs)(run_remotely)
        try:
            self.slots = num_slots(options, resources, needs)
        except ValueError:
            self.close()
            raise

    def _start(self) -> Any:
        if self._options.ray_address is not None:
            _check_reachable(self._options.ray_address)
        ray = _import_ray(local=self._options.ray_address is None)
        self._started_here = not ray.is_initialized()
        if not self._started_here:  # a notebook's, for example: it is used and left running
            return ray
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._options.ray_address is None:
            options |= self._own_cluster()
        else:
            options |= {"address": self._options.ray_address}
        _start_within_limit(lambda: ray.init(**options), self._closed)
        return ray

    def _own_cluster(self) -> dict[str, Any]:
        return {
            "address": "local",
            "num_cpus": num_workers(self._options) * self._options.threads,
            "num_gpus": len(gpus_of(self._options)),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }

    def submit(self, job: Job) -> str:
        if self._study is None:
            self._study = Path(job.study)
            if self._options.ray_address is not None:
                self._check_shared(self._study)
        stop_file = str(self._study / self._stop_name)
        self._tasks[self._remote.remote(asdict(job), stop_file)] = job
        return "ray"

    def _check_shared(self, study: Path) -> None:
        """Check that every node sees the study's folder.

        Raises:
            ValueError: some nodes do not; the message names them.
        """
        token, path = secrets.token_hex(8), study / f"{TEMP_PREFIX}probe-{secrets.token_hex(8)}"
        path.write_text(token)
        try:
            alive = [node["NodeID"] for node in self._ray.nodes() if node["Alive"]]
            answers = [self._read_on(node, path) for node in alive]
        finally:
            path.unlink()
        if errors := [answer for answer in answers if answer != token]:
            raise ValueError(
                f"every node of the cluster must see the folder {study}; these do not: "
                + "; ".join(errors)
            )

    def _read_on(self, node: str, path: Path) -> str:
        """What ``node`` reads at ``path``, or the error."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        on_node = NodeAffinitySchedulingStrategy(node, soft=False)
        read = self._ray.remote(max_retries=0, num_cpus=0, scheduling_strategy=on_node)(read_probe)
        try:
            answer: str = self._ray.get(read.remote(str(path.resolve())), timeout=START_SECONDS)
        except self._ray.exceptions.RayError as error:
            return f"{node}: {_first_line(error)}"
        return answer

    def poll(self, seconds: float) -> list[Outcome]:
        if not self._tasks:
            time.sleep(seconds)
            return []
        refs = list(self._tasks)
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=seconds)
        if ready:  # and the others that have ended by now
            ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        return [self._outcome(ref, self._tasks.pop(ref)) for ref in ready]

    def _outcome(self, ref: Any, job: Job) -> Outcome:
        try:
            return Outcome(**self._ray.get(ref))
        except self._ray.exceptions.RayError as error:
            log_file = StudyFolder(job.study).trial(job.trial_id).path / "log.txt"
            line, detail = f"worker died: {_first_line(error)}", f"{log_tail(log_file)}\n{error}"
            return Outcome(job.trial_id, "failed", failure_kind(error), line, detail)

    def request_stop(self) -> None:
        if self._study is not None:
            (self._study / self._stop_name).touch()

    def close(self) -> None:
        for ref in self._tasks:
            self._ray.cancel(ref, force=True)
        self._tasks = {}
        if self._started_here:
            self._ray.shutdown()
        self._closed.set()
        if self._study is not None:
            (self._study / self._stop_name).unlink(missing_ok=True)


def _import_ray(local: bool) -> Any:
    """Ray, with the environment that it reads at import and at its start."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if local:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        import ray._private.worker as internals
    except ImportError as error:
        raise ValueError(f"Ray cannot be imported ({error}): {ALTERNATIVE}") from error
    if hasattr(internals, "print_to_stdstream"):
        internals.print_to_stdstream = lambda data, **_: log.debug("Ray: %s", data.get("lines"))
    return ray


def _check_reachable(address: str) -> None:
    """Check that a process listens at ``HOST:PORT``.

    Raises:
        ValueError: none does, or ``address`` has another form.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit()):
        raise ValueError(f"a Ray address is HOST:PORT (the cluster's GCS), got {address!r}")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise ValueError(f"no Ray answers at {address} ({error}): {ALTERNATIVE}") from error


def _start_within_limit(start: Callable[[], object], closed: threading.Event) -> None:
    """Run ``start`` in a thread, so that a start that hangs can be abandoned.

    The thread lives until ``closed``: the kernel ends Ray's processes when the thread that started
    them ends, which keeps them from outliving this process.

    Raises:
        ValueError: ``start`` failed, or took longer than `START_SECONDS`.
    """
    done, failure = threading.Event(), list[Exception]()

    def run() -> None:
        try:
            start()
        except Exception as error:  # noqa: BLE001  the caller raises it again
            failure.append(error)
        done.set()
        closed.wait()

    threading.Thread(target=run, name="ray-start", daemon=True).start()
    started = time.monotonic()
    while not done.wait(0.1):  # short waits, so that Ctrl-C takes effect
        if time.monotonic() - started > START_SECONDS:
            raise ValueError(f"Ray did not start within {START_SECONDS:.0f} s: {ALTERNATIVE}")
    if failure:
        closed.set()
        raise ValueError(f"Ray did not start ({_first_line(failure[0])}): {ALTERNATIVE}")


def _first_line(error: Exception) -> str:
    with suppress(IndexError):
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return type(error).__name__
