"""The command line. Data goes to stdout, talk to stderr; each command imports what it needs.

Exit codes: 0 done; 1 finished with failed trials, or a check found a difference; 2 bad input;
130 Ctrl-C and 143 SIGTERM, both of which the same command continues.
"""

import os
import sys

import typer

from archsearch.cli import count, launch, paper, probe, runs
from archsearch.running.stopping import StudyStopped

app = typer.Typer(
    help="Choose an InternImage variant under a budget, and a scaling rule one can trust.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (launch, paper, probe, count, runs):
    for command in module.COMMANDS:
        app.command()(command)


def main() -> None:
    """Entry point: one clear message for bad input, a traceback for our own mistakes."""
    try:
        app()
    except StudyStopped as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError) as error:
        if os.environ.get("ARCHSEARCH_TRACEBACK"):
            raise
        print(f"archsearch: {error}", file=sys.stderr)
        sys.exit(2)
