"""How options become flags, and the flags that several commands share."""

import sys
from collections.abc import Callable
from enum import StrEnum
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from archsearch.api.keywords import default_of, parameters


class Format(StrEnum):
    """How data is printed on stdout."""

    table = "table"
    json = "json"


Run = Annotated[Path, Argument(help="Folder of a run, such as runs/grid-30M-digits.")]
AsFormat = Annotated[Format, Option("--format", help="Print a table or JSON on stdout.")]
PlanOnly = Annotated[bool, Option("--plan", help="Print the plan and its costs; train nothing.")]
Device = Annotated[str, Option("--device", help="auto, cpu, cuda, or one GPU: cuda:1.")]


def with_options(*kinds: type, leave_out: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """Give a command every option of the dataclasses as a flag; it takes them as ``**options``.

    ``leave_out`` names options that the command does not have.
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
            for name, (one, kind) in parameters(*kinds).items()
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
    """One option as a parameter that typer reads."""
    meta, default = one.metadata, default_of(one)
    # Of a yes or no, typer makes --name and --no-name itself.
    switch = kind is bool and not meta.get("flag")
    names = () if switch else (meta.get("flag") or f"--{name.replace('_', '-')}",)
    text = str if "names" in meta else meta.get("text")
    if text is not None:
        kind = text if default is not None else text | None
    if text is str and default is not None:
        default = str(default)
    declared = Option(*names, help=meta["help"], metavar=meta.get("metavar") or None)
    annotation = Annotated[kind, declared]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def command_line() -> list[str]:
    """The command as typed, without the folder its program lies in."""
    return ["archsearch", *sys.argv[1:]]
