"""The conversion of options to flags, and the flags that several commands share."""

import sys
from collections.abc import Callable
from enum import StrEnum
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from archsearch.api.keywords import default_of, options_of


class Format(StrEnum):
    """The format of the results on stdout."""

    table = "table"
    json = "json"


Run = Annotated[Path, Argument(help="Use the run in this folder, such as runs/grid-30M-digits.")]
AsFormat = Annotated[Format, Option("--format", help="Print the results as a table or as JSON.")]
PlanOnly = Annotated[bool, Option("--plan", help="Print the plan and its costs without training.")]
ImageSize = Annotated[
    str,
    Option(
        "--image-size",
        metavar="SIDE|HEIGHTxWIDTH",
        help="Use images of this side, or of this height x width, such as 800x1333.",
    ),
]
Device = Annotated[str, Option("--device", help="Use auto, cpu, cuda, or one GPU such as cuda:1.")]


def with_options(*kinds: type, leave_out: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """Add every option of the dataclasses to a command as a flag; it receives ``**options``.

    ``leave_out`` names the options that the command does not have.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            p
            for p in Signature.from_callable(command, eval_str=True).parameters.values()
            if p.kind is not Parameter.VAR_KEYWORD
        ]
        before = [p for p in own if p.name not in ("plan", "output")]
        after = [p for p in own if p.name in ("plan", "output")]
        flags = [
            _flag(name, one, kind)
            for name, (one, kind) in options_of(*kinds).items()
            if name not in leave_out and default_of(one) is not Parameter.empty
        ]
        signature = Signature(
            [p.replace(kind=Parameter.KEYWORD_ONLY) for p in (*before, *flags, *after)]
        )
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return command

    return decorate


def _flag(name: str, one: Any, kind: Any) -> Parameter:
    """Return one option as a parameter for typer."""
    meta, default = one.metadata, default_of(one)
    # For a bool, typer adds --name and --no-name itself.
    switch = kind is bool and not meta.get("flag")
    names = () if switch else (meta.get("flag") or f"--{name.replace('_', '-')}",)
    text = str if "names" in meta else meta.get("text")
    if text is not None:
        kind = text if default is not None else text | None
    if text is str and default is not None:
        default = str(default)
    declared = Option(
        *names, help=meta["help"].replace("{name}", name), metavar=meta.get("metavar") or None
    )
    annotation = Annotated[kind, declared]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def command_line() -> list[str]:
    """Return the command as typed, without the folder of the program."""
    return ["archsearch", *sys.argv[1:]]
