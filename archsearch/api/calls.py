"""The Python calls: the options of the commands as keywords."""

from collections.abc import Callable
from inspect import cleandoc
from pathlib import Path
from typing import Any

from archsearch.api.keywords import check_keywords, evaluate_all, from_options, signature_of
from archsearch.api.options import Launch, Training, parse_key_values
from archsearch.api.requests import Grid, Scale, Search
from archsearch.api.run import Run
from archsearch.api.session import train_and_report
from archsearch.api.train import FullTraining, TrainedNetwork, train_network
from archsearch.core.cost import Cost
from archsearch.core.numbers import ImageSize, parse_image_size
from archsearch.networks import find_variant
from archsearch.study import Study


def _call_for(kind: type[Grid | Scale | Search]) -> Callable[..., Run]:
    """Return a call that takes the options of a request, of its training and of its launch."""

    def call(**options: Any) -> Run:
        check_keywords(options, kind, Training, Launch)
        request, training = from_options(kind, options), from_options(Training, options)
        study, launch = evaluate_all(
            lambda: request.study(training), from_options(Launch, options).checked
        )
        return Run(train_and_report(study, launch, _command(kind, options)).path)

    call.__name__ = call.__qualname__ = kind.__name__.lower()
    call.__doc__ = f"{cleandoc(kind.__doc__ or '')}\n\nRepeat the call to resume a stopped run."
    call.__signature__ = signature_of(kind, Training, Launch)  # type: ignore[attr-defined]
    return call


def _command(kind: type, options: dict[str, Any]) -> list[str]:
    """Return the command that does the same, which messages suggest for resuming."""
    command = ["archsearch", kind.__name__.lower()]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            command.append(flag if value else flag.replace("--", "--no-", 1))
        elif name == "set":
            pairs = parse_key_values(value).items()
            command += [part for key, text in pairs for part in (flag, f"{key}={text}")]
        elif value is not None:
            is_list = isinstance(value, list | tuple)
            command += [flag, ",".join(map(str, value)) if is_list else str(value)]
    return command


grid, scale, search = map(_call_for, (Grid, Scale, Search))


def run(study: Study, **options: Any) -> Run:
    """Train your own study; the options say where its trials run, as for `grid`."""
    check_keywords(options, Launch)
    launch = from_options(Launch, options).checked()
    return Run(train_and_report(study, launch, ["archsearch", "run"]).path)


def train(network: str, **options: Any) -> TrainedNetwork:
    """Train one network in full: ``T``, ``64-16-4-18``, ``RUN:best``.

    Repeat the call to resume a stopped training.
    """
    check_keywords(options, FullTraining)
    return train_network(network, from_options(FullTraining, options))


train.__signature__ = signature_of(FullTraining)  # type: ignore[attr-defined]


def load(run: Path | str) -> Run:
    """Return an existing run, finished or not.

    Raises:
        ValueError: if the folder holds no study.
    """
    loaded = Run(run)
    loaded.results  # noqa: B018  read now, so that a wrong folder fails here
    return loaded


def count(network: str, *, image_size: ImageSize = 224, num_classes: int = 1000) -> Cost:
    """Return what a network costs, in closed form: ``T``, ``64-16-4-18``, ``RUN:best``.

    ``image_size`` is a side in pixels, (height, width), or a text such as ``800x1333`` (height x
    width).

    Raises:
        ValueError: if no network has that name, or for a size below one pixel.
    """
    height, width = parse_image_size(image_size)
    return find_variant(network).cost(height, width, num_classes)
