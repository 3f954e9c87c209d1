"""The calls of the Python face: the same options as the commands, as keywords."""

from collections.abc import Callable
from inspect import cleandoc
from pathlib import Path
from typing import Any, Protocol

from archsearch.api.keywords import check, gather, spread, together
from archsearch.api.options import Launch, Training
from archsearch.api.requests import Grid, Scale, Search
from archsearch.api.run import Run
from archsearch.api.session import start
from archsearch.api.train import FullTraining, Trained, train_network
from archsearch.core.cost import Cost
from archsearch.networks import variant_named
from archsearch.study import Study


class Request(Protocol):
    """`Grid`, `Scale` and `Search`."""

    def study(self, training: Training) -> Study: ...


def _launcher(kind: type[Request]) -> Callable[..., Run]:
    """A call that takes every option of a request, its training and its launch."""

    def call(**options: Any) -> Run:
        check(options, kind, Training, Launch)
        request, training = gather(kind, options), gather(Training, options)
        study, launch = together(lambda: request.study(training), gather(Launch, options).checked)
        return Run(start(study, launch, _command(kind, options)).path)

    call.__name__ = call.__qualname__ = kind.__name__.lower()
    call.__doc__ = f"{cleandoc(kind.__doc__ or '')}\n\nThe same call goes on where it was stopped."
    call.__signature__ = spread(kind, Training, Launch)  # type: ignore[attr-defined]
    return call


def _command(kind: type, options: dict[str, Any]) -> list[str]:
    """The same request as a command, for a person to go on with."""
    words = ["archsearch", kind.__name__.lower()]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, dict):
            words += [part for key, v in value.items() for part in (flag, f"{key}={v}")]
        elif value is not None:
            several = isinstance(value, list | tuple)
            words += [flag, ",".join(map(str, value)) if several else str(value)]
    return words


grid, scale, search = map(_launcher, (Grid, Scale, Search))


def run(study: Study, **options: Any) -> Run:
    """Train a study of one's own; options say where its trials run, as for `grid`."""
    check(options, Launch)
    return Run(start(study, gather(Launch, options).checked(), ["archsearch", "run"]).path)


def train(network: str, **options: Any) -> Trained:
    """Train one network in full: ``T``, ``64-16-4-18``, ``RUN:best``.

    The same call goes on where it was stopped.
    """
    check(options, FullTraining)
    return train_network(network, gather(FullTraining, options))


train.__signature__ = spread(FullTraining)  # type: ignore[attr-defined]


def load(run: Path | str) -> Run:
    """A run that exists, finished or not.

    Raises:
        ValueError: when the folder holds no study.
    """
    found = Run(run)
    found.results  # noqa: B018  so that a wrong folder is told here
    return found


def count(
    network: str, *, image_size: int | tuple[int, int] = 224, num_classes: int = 1000
) -> Cost:
    """What a network costs, in closed form: ``T``, ``64-16-4-18``, ``RUN:best``.

    Raises:
        ValueError: nothing is called so, or a size below one pixel.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return variant_named(network).cost(height, width, num_classes)
