"""Starts Ray on this machine, or connects to a cluster by its address.

Behavior of Ray 2.60 that was observed, and what this module does about it: it hangs on a dead
address (checked first, and with a timeout), listens on every interface if clusters are allowed on
this system (a Ray that is started here allows none), sends usage statistics (off), prints worker
deaths to stdout (logged instead), and ends the driver's process with its own words a minute after
the head died (after ten minutes; the runner stops before).
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from archsearch.running.runners import RunnerOptions, gpus_of, num_workers, software
from archsearch.running.runners.ray_nodes import first_line
from archsearch.storage.files import log

START_SECONDS = 45.0
"""A start takes 3-6 s; one that hangs is abandoned within a minute."""

CONNECT_SECONDS = 5.0
OBJECT_STORE_BYTES = 78_643_200
"""The least that Ray accepts: no large object passes through it."""

ALTERNATIVE = "--runner local needs no Ray"

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 0: a Ray of this machine alone, on loopback
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_CLUSTER_ENVIRONMENT = {"RAY_gcs_rpc_server_reconnect_timeout_s": "600"}


def start(options: RunnerOptions, closed: threading.Event) -> tuple[Any, bool]:
    """The module `ray`, connected, and whether this call did it; ``closed`` ends what it starts.

    Raises:
        ValueError: Ray is not available, after at most a minute; the message names the runner
            that works without it.
    """
    if options.ray_address is not None:
        check_reachable(options.ray_address)  # before the import, at which Ray reads its tokens
    ray = import_ray(local=options.ray_address is None)
    if ray.is_initialized():  # a notebook's, for example: it is used and left running
        return ray, False
    arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if options.ray_address is None:
        arguments |= own_cluster(options)
    else:
        arguments |= {"address": options.ray_address}
    start_within_limit(lambda: ray.init(**arguments), closed)
    return ray, True


def own_cluster(options: RunnerOptions) -> dict[str, Any]:
    """The arguments of `ray.init` for a Ray of this machine alone."""
    return {
        "address": "local",
        "num_cpus": num_workers(options) * options.threads,
        "num_gpus": len(gpus_of(options)),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
    }


def import_ray(local: bool) -> Any:
    """Ray, with the environment that it reads at import and at its start."""
    for name, value in (_ENVIRONMENT if local else _ENVIRONMENT | _CLUSTER_ENVIRONMENT).items():
        os.environ.setdefault(name, value)
    if local:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        import ray._private.worker as internals
    except ImportError as error:
        raise ValueError(f"Ray cannot be imported ({error}): {ALTERNATIVE}") from error
    if local and not ray.is_initialized():
        _read_environment_again()
    if hasattr(internals, "print_to_stdstream"):
        internals.print_to_stdstream = lambda data, **_: log.debug("Ray: %s", data.get("lines"))
    ray.cloudpickle.register_pickle_by_value(software)
    return ray


def _read_environment_again() -> None:
    """Let a Ray that was imported before the environment was set read it: where it listens, and
    its token."""
    from ray._private import ray_constants

    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    ray_constants.ENABLE_RAY_CLUSTER = ray_constants.env_bool(name, False)
    try:
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
    except ImportError:  # a Ray that has no tokens yet
        return
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def check_reachable(address: str) -> None:
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


def start_within_limit(start: Callable[[], object], closed: threading.Event) -> None:
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
        raise ValueError(f"Ray did not start ({first_line(failure[0])}): {ALTERNATIVE}")
