"""Where trials run: in this process, in local workers, or on Ray. One contract for all three.

A runner has ``slots``. `submit` takes a job while a slot is free; `poll` gives the outcomes of the
jobs that ended, waiting at most so long for the first; `ask_stop` asks all running work to save and
stop; `close` ends everything at once. A runner knows nothing of studies, retries or records.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from archsearch.running import machine
from archsearch.running.work import DEFAULT_WORK, Job, Outcome

Name = Literal["auto", "inline", "local", "ray"]
NAMES: tuple[Name, ...] = ("auto", "inline", "local", "ray")


@dataclass(frozen=True)
class Place:
    """Where to run. ``workers`` None means as many as the machine suits.

    ``threads`` is what a trial computes with on a CPU. ``ray_address`` names an existing cluster
    (``HOST:PORT``); ``gpus_per_trial`` may be a fraction there. ``work`` is loaded ahead.
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
        ValueError: for an unknown name or a wrong number of workers, both at once.
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
    if problems:
        raise ValueError("; ".join(problems))
    if name != "auto":
        return name
    return "inline" if num_trials == 1 or num_workers(place) == 1 else "local"


def num_workers(place: Place) -> int:
    """Workers on this machine: as asked for, or as suits it."""
    found = () if place.device == "cpu" else machine.gpus()
    return place.workers or machine.default_workers(place.threads, len(found))
