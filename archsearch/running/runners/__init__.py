"""Where trials run: in this process, in local workers, or on Ray. One contract for all three.

A runner has ``slots``. `submit` takes a job while a slot is free; `poll` gives the outcomes of the
jobs that ended, waiting at most so long for the first; `ask_stop` asks all running work to save and
stop; `close` ends everything at once. A runner knows nothing of studies, retries or records.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from archsearch.running.work import DEFAULT_WORK, Job, Outcome
from archsearch.training import machine

Name = Literal["auto", "inline", "local", "ray"]
NAMES: tuple[Name, ...] = ("auto", "inline", "local", "ray")


@dataclass(frozen=True)
class Place:
    """Where to run. ``workers`` None means as many as the machine suits.

    ``device`` is auto, cpu, cuda, or one GPU by its number (``cuda:1``, all workers on that).
    ``threads`` is what a trial computes with on a CPU. ``ray_address`` names an existing cluster
    (``HOST:PORT``); ``gpus_per_trial`` may be a fraction on Ray. ``work`` is loaded ahead.
    """

    workers: int | None = None
    device: str = "auto"
    threads: int = 1
    work: str = DEFAULT_WORK
    ray_address: str | None = None
    gpus_per_trial: float | None = None


class Runner(Protocol):
    """See the module's words."""

    slots: int

    def submit(self, job: Job) -> str:
        """Start a job; returns where, in a word for the table."""

    def poll(self, seconds: float) -> list[Outcome]: ...

    def ask_stop(self) -> None: ...

    def close(self) -> None: ...


def open_runner(name: Name, place: Place, tick: Callable[[], None]) -> Runner:
    """The runner of that name; ``auto`` is resolved by `choose`. Imports Ray only for Ray.

    ``tick`` is called now and then by a runner that works in this process.
    """
    if name == "inline":
        from archsearch.running.runners.inline import Inline

        return Inline(tick)
    if name == "local":
        from archsearch.running.runners.local import Local

        return Local(place)
    from archsearch.running.runners.on_ray import OnRay

    return OnRay(place)


def choose(name: Name, place: Place, num_trials: int | None) -> Name:
    """The simplest runner that uses the machine, for ``auto``: inline where one worker suffices.

    Raises:
        ValueError: for options that are wrong or do not go together, all at once.
    """
    problems = []
    if name not in NAMES:
        problems.append(f"the runner is one of {', '.join(NAMES)}, got {name!r}")
    if place.workers is not None and place.workers < 1:
        problems.append(f"workers wants a whole number >= 1, got {place.workers}")
    if name == "inline" and place.workers not in (None, 1):
        problems.append(f"the runner inline has one worker, got {place.workers}: take local")
    if name != "ray" and (place.ray_address or place.gpus_per_trial):
        problems.append(f"an address and GPUs per trial are for the runner ray, not {name}")
    if name == "ray" and ":" in place.device:
        advice = "take --runner local, or set CUDA_VISIBLE_DEVICES and ask for cuda"
        problems.append(f"Ray gives out GPUs itself, got the device {place.device}: {advice}")
    if problems:
        raise ValueError("; ".join(problems))
    if name != "auto":
        return name
    return "inline" if num_trials == 1 or num_workers(place) == 1 else "local"


def num_slots(name: Name, place: Place) -> int:
    """How many trials that runner runs at once; a cluster is asked, for only it knows its size.

    Raises:
        ValueError: no cluster answers at the address, or it has no room for a trial.
    """
    if name == "inline":
        return 1
    if place.ray_address is None:
        return num_workers(place)
    runner = open_runner(name, place, lambda: None)
    try:
        return runner.slots
    finally:
        runner.close()


def num_workers(place: Place) -> int:
    """Workers on this machine: as asked for, or as suits it."""
    if place.workers is not None:
        return place.workers
    room = int(len(gpus_of(place)) / (place.gpus_per_trial or 1))
    return machine.default_workers(place.threads, room)


def gpus_of(place: Place) -> tuple[str, ...]:
    """The GPUs that local workers share out, each fit for CUDA_VISIBLE_DEVICES.

    Raises:
        ValueError: there is no GPU of the number asked for.
    """
    if place.device == "cpu":
        return ()
    _, colon, number = place.device.partition(":")
    return (machine.gpu(int(number)),) if colon else machine.gpus()


def pinned(device: str) -> str:
    """What ``device`` is called in a worker that sees its own GPU alone: there is no second."""
    return device.partition(":")[0]
