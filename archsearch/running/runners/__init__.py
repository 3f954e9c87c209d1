"""Runners: trials run in this process, in local workers, or on Ray, by one contract.

A runner has ``slots``. `submit` takes a job while a slot is free. `poll` returns the outcomes of
the jobs that ended, and waits at most the given time for the first. `request_stop` requests all
running work to save and stop. `close` ends everything immediately. A runner knows nothing of
studies, retries or records.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from archsearch.running.work import DEFAULT_WORK, Job, Outcome
from archsearch.training import machine

RunnerName = Literal["auto", "inline", "local", "ray"]
RUNNER_NAMES: tuple[RunnerName, ...] = get_args(RunnerName)


@dataclass(frozen=True)
class RunnerOptions:
    """How many trials run, and on what. ``workers`` None means as many as suit the machine.

    ``device`` is auto, cpu, cuda, or one GPU by its number (``cuda:1``, used by all workers).
    ``threads`` is the number of CPU threads of a trial. ``ray_address`` names an existing cluster
    (``HOST:PORT``); on Ray ``gpus_per_trial`` may be a fraction, and
    ``allow_mixed_versions`` uses nodes whose software differs. Workers import ``work`` when they
    start.
    """

    workers: int | None = None
    device: str = "auto"
    threads: int = 1
    work: str = DEFAULT_WORK
    ray_address: str | None = None
    gpus_per_trial: float | None = None
    allow_mixed_versions: bool = False


class Runner(Protocol):
    """See the module docstring."""

    @property
    def slots(self) -> int: ...

    def submit(self, job: Job) -> str:
        """Start a job; returns a label of its worker for the progress table."""

    def poll(self, seconds: float) -> list[Outcome]: ...

    def request_stop(self) -> None: ...

    def close(self) -> None: ...


def open_runner(name: RunnerName, options: RunnerOptions, tick: Callable[[], None]) -> Runner:
    """The runner called ``name``, which is not ``auto`` (see `choose_runner`).

    Ray is imported only for the runner ray. A runner that works in this process calls ``tick``
    several times a second.
    """
    if name == "inline":
        from archsearch.running.runners.inline import InlineRunner

        return InlineRunner(tick)
    if name == "local":
        from archsearch.running.runners.local import LocalRunner

        return LocalRunner(options)
    from archsearch.running.runners.on_ray import RayRunner

    return RayRunner(options)


def choose_runner(name: RunnerName, options: RunnerOptions, num_trials: int | None) -> RunnerName:
    """``name``; for ``auto`` the simplest runner that uses the machine: inline for one worker.

    Raises:
        ValueError: options are wrong or cannot be combined; the message lists all problems.
    """
    problems = []
    if name not in RUNNER_NAMES:
        problems.append(f"the runner is one of {', '.join(RUNNER_NAMES)}, got {name!r}")
    if options.workers is not None and options.workers < 1:
        problems.append(f"workers must be a whole number >= 1, got {options.workers}")
    if name == "inline" and options.workers not in (None, 1):
        problems.append(f"the runner inline has one worker, got {options.workers}: use local")
    if name != "ray" and (options.ray_address or options.gpus_per_trial):
        problems.append(f"an address and GPUs per trial are for the runner ray, not {name}")
    if name == "ray" and ":" in options.device:
        advice = "use --runner local, or set CUDA_VISIBLE_DEVICES and use cuda"
        problems.append(f"Ray assigns GPUs itself, got the device {options.device}: {advice}")
    if problems:
        raise ValueError("; ".join(problems))
    if name != "auto":
        return name
    return "inline" if num_trials == 1 or num_workers(options) == 1 else "local"


def num_slots(name: RunnerName, options: RunnerOptions) -> int:
    """How many trials the runner runs at a time; of a cluster, after connecting to it.

    Raises:
        ValueError: no cluster answers at the address, or it is too small for a trial.
    """
    if name == "inline":
        return 1
    if options.ray_address is None:
        return num_workers(options)
    runner = open_runner(name, options, lambda: None)
    try:
        return runner.slots
    finally:
        runner.close()


def num_workers(options: RunnerOptions) -> int:
    """Workers on this machine: the requested number, or as many as suit it."""
    if options.workers is not None:
        return options.workers
    num_gpu_slots = int(len(gpus_of(options)) / (options.gpus_per_trial or 1))
    return machine.default_workers(options.threads, num_gpu_slots)


def gpus_of(options: RunnerOptions) -> tuple[str, ...]:
    """The GPUs that local workers share, each valid in CUDA_VISIBLE_DEVICES.

    Raises:
        ValueError: there is no GPU of the requested number.
    """
    if options.device == "cpu":
        return ()
    _, colon, number = options.device.partition(":")
    return (machine.gpu(int(number)),) if colon else machine.gpus()
