"""The Python calls: the options of the commands as keywords."""

import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, Signature, cleandoc
from pathlib import Path
from typing import Any

from archsearch.api.compare import compare_and_report
from archsearch.api.compare_request import Compare
from archsearch.api.downstream import Downstream, downstream_and_report
from archsearch.api.evaluate import Evaluate, evaluate_weights
from archsearch.api.families import network_named, parse_axes
from archsearch.api.full_training import FullTraining
from archsearch.api.heads import HeadOptions
from archsearch.api.keywords import (
    check_keywords,
    evaluate_all,
    from_options,
    options_of,
    signature_of,
)
from archsearch.api.latency import planned_of, train_planned
from archsearch.api.options import Launch, Training, parse_key_values
from archsearch.api.requests import Grid, Scale
from archsearch.api.run import Run
from archsearch.api.search_request import Search
from archsearch.api.session import train_and_report
from archsearch.api.train import TrainedNetwork, train_network
from archsearch.core.by_file import source_of
from archsearch.core.by_path import path_of
from archsearch.core.closed_form import NUM_CLASSES, cost_of
from archsearch.core.cost import Cost
from archsearch.core.family import Family
from archsearch.core.numbers import ImageSize, parse_image_size
from archsearch.families import family_of
from archsearch.study import Study


def _call_for(kind: type[Grid | Scale | Search]) -> Callable[..., Run]:
    """Return a call that takes the options of a request, of its training and of its launch."""

    def call(*family: str | type[Family], **options: Any) -> Run:
        options = _with_family(family, options)
        check_keywords(options, kind, Training, Launch)
        request, training = from_options(kind, options), from_options(Training, options)
        study, launch = evaluate_all(
            lambda: planned_of(request, training), from_options(Launch, options).checked
        )
        return Run(train_planned(study, launch, command_of(kind, options)).path)

    call.__name__ = call.__qualname__ = kind.__name__.lower()
    call.__doc__ = f"{cleandoc(kind.__doc__ or '')}\n\nRepeat the call to resume a stopped run."
    call.__signature__ = _with_positional(signature_of(kind, Training, Launch), "family")  # type: ignore[attr-defined]
    return call


def _with_family(family: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with the family that was given as the only positional argument."""
    if len(family) > 1:
        raise TypeError(f"one positional argument, the family, is possible, got {len(family)}")
    if family and "family" in options:
        raise TypeError("the family is given twice, by position and by name")
    return {**options, **({"family": family[0]} if family else {})}


def _with_positional(signature: Signature, name: str) -> Signature:
    """Return the signature with this parameter first, by position or by name."""
    first = signature.parameters[name].replace(kind=Parameter.POSITIONAL_OR_KEYWORD)
    others = [p for p in signature.parameters.values() if p.name != name]
    return signature.replace(parameters=[first, *others])


def _with_options(call: Callable[..., Any], *kinds: type) -> Signature:
    """Return the signature of a call with every option of the dataclasses instead of keywords."""
    signature = Signature.from_callable(call)
    own = [p for p in signature.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    return Signature([*own, *signature_of(*kinds).parameters.values()])


def command_of(kind: type, options: dict[str, Any]) -> list[str]:
    """Return the command that does the same as a call, which messages suggest for resuming."""
    command = ["archsearch", kind.__name__.lower()]
    declared = options_of(kind, Training, Launch)
    for name, value in options.items():
        flag = declared[name][0].metadata.get("flag") or f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            command.append(flag if value else flag.replace("--", "--no-", 1))
        elif name in ("set", "switches"):
            command += _pairs(flag, parse_key_values(value))
        elif name == "log" and not isinstance(value, str | None):
            command += [part for one in value for part in (flag, str(one))]
        elif name == "values":
            axes = {axis: ",".join(map(str, v)) for axis, v in parse_axes(value).items()}
            command += _pairs(flag, axes)
        elif name == "families" and not isinstance(value, str):
            names = (one if isinstance(one, str) else _family_text(one) for one in value)
            command += [flag, ",".join(names)]
        elif isinstance(value, type):
            command += [flag, _family_text(value)]
        elif value is not None:
            is_list = isinstance(value, list | tuple)
            command += [flag, ",".join(map(str, value)) if is_list else str(value)]
    return command


def _pairs(flag: str, values: Mapping[str, str]) -> list[str]:
    return [part for key, text in values.items() for part in (flag, f"{key}={text}")]


def _family_text(family: type[Family]) -> str:
    """Return a family as the option --family reads it; one of a file by the path of the file."""
    family = family_of(family)
    module = sys.modules[family.__module__]
    return f"{module.__file__}:{family.__name__}" if source_of(family) else path_of(family)


grid, scale, search = map(_call_for, (Grid, Scale, Search))


def compare(families: Sequence[str | type[Family]] | str, **options: Any) -> Run:
    """Compare families of networks, as the command of this name; repeat the call to resume."""
    options = {"families": families, **options}
    check_keywords(options, Compare, Training, Launch)
    plan, launch = evaluate_all(
        lambda: from_options(Compare, options).plan(from_options(Training, options)),
        from_options(Launch, options).checked,
    )
    return Run(compare_and_report(plan, launch, command_of(Compare, options)).path)


compare.__signature__ = _with_positional(signature_of(Compare, Training, Launch), "families")  # type: ignore[attr-defined]


def downstream(run: Run | Path | str, **options: Any) -> Run:
    """Fine-tune the networks of a classification run as segmenters or detectors.

    The options are those of the command of this name. Repeat the call to resume.
    """
    check_keywords(options, Downstream, Launch)
    folder = run.folder if isinstance(run, Run) else Path(run)
    study, launch = evaluate_all(
        lambda: from_options(Downstream, options).study(folder),
        from_options(Launch, options).checked,
    )
    flags = command_of(Downstream, options)[2:]
    command = ["archsearch", "downstream", str(folder), *flags]
    return Run(downstream_and_report(folder, study, launch, command).path)


downstream.__signature__ = _with_options(downstream, Downstream, Launch)  # type: ignore[attr-defined]


def run(study: Study, **options: Any) -> Run:
    """Train your own study; the options say where its trials run, as for `grid`."""
    check_keywords(options, Launch)
    launch = from_options(Launch, options).checked()
    return Run(train_and_report(study, launch, ["archsearch", "run"]).path)


def train(
    network: "str | Family | type[Family]", name: str | None = None, **options: Any
) -> TrainedNetwork:
    """Train one network in full: ``T``, ``64-16-4-18``, ``RUN:best``.

    ``train(Net, "32-5")``, ``train("32-5", family=Net)`` and ``train(Net(32, 5))`` train one of
    another family. Repeat the call to resume a stopped training.
    """
    if name is not None:
        network, options = name, _with_family((network,), options)
    check_keywords(options, FullTraining)
    return train_network(network, from_options(FullTraining, options))


train.__signature__ = _with_options(train, FullTraining)  # type: ignore[attr-defined]


def evaluate(weights: Path | str, **options: Any) -> dict[str, Any]:
    """Measure a trained network: a file of weights, ``RUN:best`` or ``RUN:TRIAL``.

    Returns a row with the task's measures in percent, as ``val_NAME`` or ``test_NAME``.
    """
    check_keywords(options, Evaluate)
    return evaluate_weights(str(weights), from_options(Evaluate, options))


evaluate.__signature__ = _with_options(evaluate, Evaluate)  # type: ignore[attr-defined]


def load(run: Path | str) -> Run:
    """Return an existing run, finished or not.

    Raises:
        ValueError: if the folder holds no study.
    """
    loaded = Run(run)
    loaded.results  # noqa: B018  read now, so that a wrong folder fails here
    return loaded


def count(
    network: "str | Family | type[Family]",
    name: str | None = None,
    *,
    family: str | type[Family] = "internimage",
    switches: Mapping[str, Any] | None = None,
    image_size: ImageSize = 224,
    num_classes: int | None = None,
    head: str | None = None,
    two_backbones: bool = False,
) -> Cost:
    """Return what a network costs: ``T``, ``64-16-4-18``, ``RUN:best``.

    ``count(Net, "32-5")``, ``count("32-5", family=Net)`` and ``count(Net(32, 5))`` count one of
    another family, in closed form if the family has one. ``image_size`` is a side in pixels,
    (height, width), or a text such as ``800x1333`` (height x width).

    ``head`` puts a detector or segmenter on it, with the classes of COCO or ADE20K by default:
    ``count("B", head="mask-rcnn", image_size="1280x800")`` is an `archsearch.heads.cost.HeadCost`,
    which also has the count in the convention ``mmcv``. ``two_backbones`` puts it on a composite.

    Raises:
        ValueError: if no network or head has that name, the network cannot have a head, or for a
            size below one pixel.
    """
    if name is not None:
        network, family = name, network
    height, width = parse_image_size(image_size)
    heads = HeadOptions(head=head, two_backbones=two_backbones).checked()
    counted = network_named(network, family, switches)
    if head is not None:
        return heads.cost(counted, height, width, num_classes)
    return cost_of(counted, height, width, num_classes or NUM_CLASSES)
