"""All commands, and what becomes of their errors."""

import os
import re
import sys
from collections.abc import Sequence

import typer

from archsearch.api.live import say
from archsearch.cli import compare, count, deploy, evaluate, launch, paper, power, probe, runs
from archsearch.cli.streams import CLOSED_PIPE
from archsearch.running.stopping import StudyStopped

app = typer.Typer(
    help="Choose a vision network under a budget, and a scaling rule you can trust.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (launch, evaluate, compare, power, paper, probe, count, runs, deploy):
    for command in module.COMMANDS:
        app.command()(command)


def with_repeated_axes(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with --set-axis before each of several axes that follow one.

    ``--set-axis width=32,48 depth=2,4`` reads as ``--set-axis width=32,48 --set-axis depth=2,4``.
    """
    expanded: list[str] = []
    follows_axis = False
    for argument in arguments:
        if follows_axis and re.fullmatch(r"[\w.]+=[\d,_ ]+", argument, re.ASCII):
            expanded.append("--set-axis")
        follows_axis = expanded[-1:] == ["--set-axis"] or argument.startswith("--set-axis=")
        expanded.append(argument)
    return expanded


def run() -> int:
    """Run a command and return its exit code.

    Wrong input prints one message, our own mistakes a traceback.
    """
    try:
        app(args=with_repeated_axes(sys.argv[1:]))
    except SystemExit as end:
        # Typer ends with 1 if it cannot write, whatever the stream.
        closed = isinstance(end.__context__, BrokenPipeError)
        return CLOSED_PIPE if closed else end.code if isinstance(end.code, int) else 0
    except StudyStopped as stop:
        say(str(stop))
        return stop.exit_code
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        if os.environ.get("ARCHSEARCH_TRACEBACK"):
            raise
        say(f"archsearch: {error}")
        return 2
    return 0
