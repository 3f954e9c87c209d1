"""Trials as Ray core tasks: on a Ray that is started here, or on a cluster by its address.

Ray's own retries are off, since a driver that counts attempts must be the only one to repeat them;
tasks return plain values, since Ray renames exceptions. What Ray 2.60 was seen to do, and what is
done about it: it retries a killed worker four times (``max_retries=0``), hangs on a dead address
(asked first, and watched), listens on every interface when clusters are allowed on this system
(they are not), sends usage statistics (off), and prints worker deaths to stdout (logged instead).
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

from archsearch.running.runners import Place, gpus_of, num_workers
from archsearch.running.work import Job, Outcome, attempt, kind_of, output_to, tail
from archsearch.storage.files import TEMP_PREFIX, log
from archsearch.storage.study_folder import StudyFolder

START_SECONDS = 45.0
"""Starting takes 3-6 s; a start that hangs is given up within a minute."""

REACH_SECONDS = 5.0
STOP_POLL_SECONDS = 0.5
OBJECT_STORE_BYTES = 78_643_200
"""The least that Ray takes: nothing of size passes through it."""

ALTERNATIVE = "--runner local needs no Ray"

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 0: a Ray of this machine alone, on loopback
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def work_remotely(job: dict[str, str], stop_file: str) -> dict[str, str]:
    """One attempt in a Ray worker; the stop comes as a file, which every node sees."""
    asked_at = 0.0

    def stop() -> bool:
        nonlocal asked_at
        now = time.monotonic()
        if now - asked_at < STOP_POLL_SECONDS:
            return False
        asked_at = now
        return Path(stop_file).exists()

    at = Job(**job)
    with output_to(StudyFolder(at.study).trial(at.trial_id).path / "log.txt"):
        return asdict(attempt(at, stop))


def look(path: str) -> str:
    """What a node reads at ``path``: the probe's words, or why it cannot."""
    try:
        return Path(path).read_text()
    except OSError as error:
        return f"{socket.gethostname()}: {error}"


def needs_of(place: Place, have: Mapping[str, float]) -> dict[str, float]:
    """CPUs and GPUs of one trial: a whole GPU where there are any, unless told a fraction."""
    gpus = place.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if place.device != "cpu" and have.get("GPU", 0) > 0 else 0.0
    return {"num_cpus": place.threads, "num_gpus": gpus}


def num_slots(place: Place, have: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """How many trials fit at once, at most ``place.workers``.

    Raises:
        ValueError: when not one fits.
    """
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    fits = min(int(have.get(names[key], 0) / need) for key, need in needs.items() if need)
    if fits < 1:
        raise ValueError(f"Ray has {dict(have)}: no room for a trial that takes {dict(needs)}")
    return fits if place.workers is None else min(fits, place.workers)


class OnRay:
    """See the module's words; the contract is `archsearch.running.runners.Runner`."""

    def __init__(self, place: Place) -> None:
        """Start or reach Ray.

        Raises:
            ValueError: within a minute, when there is no Ray to be had; names the way without it.
        """
        self._place = place
        self._closed = threading.Event()
        self._stop_name = f"{TEMP_PREFIX}stop-{secrets.token_hex(8)}"
        self._study: Path | None = None
        self._tasks: dict[Any, Job] = {}
        self._ray = self._start()
        have = self._ray.cluster_resources()
        needs = needs_of(place, have)
        self._remote = self._ray.remote(max_retries=0, **needs)(work_remotely)
        try:
            self.slots = num_slots(place, have, needs)
        except ValueError:
            self.close()
            raise

    def _start(self) -> Any:
        ray = _import_ray(local=self._place.ray_address is None)
        self._ours = not ray.is_initialized()
        if not self._ours:  # a notebook's, say: used as it is, and left running
            return ray
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._place.ray_address is None:
            options |= self._own_cluster()
        else:
            _check_reachable(self._place.ray_address)
            options |= {"address": self._place.ray_address}
        _within_a_minute(lambda: ray.init(**options), self._closed)
        return ray

    def _own_cluster(self) -> dict[str, Any]:
        return {
            "address": "local",
            "num_cpus": num_workers(self._place) * self._place.threads,
            "num_gpus": len(gpus_of(self._place)),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }

    def submit(self, job: Job) -> str:
        if self._study is None:
            self._study = Path(job.study)
            if self._place.ray_address is not None:
                self._probe(self._study)
        stop_file = str(self._study / self._stop_name)
        self._tasks[self._remote.remote(asdict(job), stop_file)] = job
        return "ray"

    def _probe(self, study: Path) -> None:
        """Every node must see the study's folder.

        Raises:
            ValueError: naming the nodes that do not.
        """
        word, path = secrets.token_hex(8), study / f"{TEMP_PREFIX}probe-{secrets.token_hex(8)}"
        path.write_text(word)
        try:
            seen = [self._ask(node["NodeID"], path) for node in self._ray.nodes() if node["Alive"]]
        finally:
            path.unlink()
        if blind := [answer for answer in seen if answer != word]:
            raise ValueError(
                f"{study} must be in a place that every node of the cluster sees; not so: "
                + "; ".join(blind)
            )

    def _ask(self, node: str, path: Path) -> str:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node, soft=False)
        ask = self._ray.remote(max_retries=0, num_cpus=0, scheduling_strategy=there)(look)
        try:
            answer: str = self._ray.get(ask.remote(str(path.resolve())), timeout=START_SECONDS)
        except self._ray.exceptions.RayError as error:
            return f"{node}: {_first_line(error)}"
        return answer

    def poll(self, seconds: float) -> list[Outcome]:
        if not self._tasks:
            time.sleep(seconds)
            return []
        refs = list(self._tasks)
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=seconds)
        if ready:  # and whatever else has ended by now
            ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        return [self._outcome(ref, self._tasks.pop(ref)) for ref in ready]

    def _outcome(self, ref: Any, job: Job) -> Outcome:
        try:
            return Outcome(**self._ray.get(ref))
        except self._ray.exceptions.RayError as error:
            log_file = StudyFolder(job.study).trial(job.trial_id).path / "log.txt"
            kind, words = kind_of(error), f"worker died: {_first_line(error)}"
            return Outcome(job.trial_id, "broke", kind, words, f"{tail(log_file)}\n{error}")

    def ask_stop(self) -> None:
        if self._study is not None:
            (self._study / self._stop_name).touch()

    def close(self) -> None:
        for ref in self._tasks:
            self._ray.cancel(ref, force=True)
        self._tasks = {}
        if self._ours:
            self._ray.shutdown()
        self._closed.set()
        if self._study is not None:
            (self._study / self._stop_name).unlink(missing_ok=True)


def _import_ray(local: bool) -> Any:
    """Ray, with its environment set: what it reads at import, and before it starts."""
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
    """Somebody listens at ``HOST:PORT``.

    Raises:
        ValueError: when nobody does, or it is no such address.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit()):
        raise ValueError(f"a Ray address is HOST:PORT (the cluster's GCS), got {address!r}")
    try:
        socket.create_connection((host, int(port)), REACH_SECONDS).close()
    except OSError as error:
        raise ValueError(f"no Ray answers at {address} ({error}): {ALTERNATIVE}") from error


def _within_a_minute(start: Callable[[], object], closed: threading.Event) -> None:
    """Run ``start`` in a thread, so that a start that hangs can be given up.

    The thread stays until ``closed``: the kernel ends Ray's processes when the thread that started
    them ends, which is how they do not outlive this process.
    """
    done, failure = threading.Event(), list[Exception]()

    def run() -> None:
        try:
            start()
        except Exception as error:  # noqa: BLE001  raised again by the caller, in words
            failure.append(error)
        done.set()
        closed.wait()

    threading.Thread(target=run, name="ray-start", daemon=True).start()
    began = time.monotonic()
    while not done.wait(0.1):  # short waits, so that Ctrl-C is heard
        if time.monotonic() - began > START_SECONDS:
            raise ValueError(f"Ray did not start within {START_SECONDS:.0f} s: {ALTERNATIVE}")
    if failure:
        closed.set()
        raise ValueError(f"Ray did not start ({_first_line(failure[0])}): {ALTERNATIVE}")


def _first_line(error: Exception) -> str:
    with suppress(IndexError):
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return type(error).__name__
