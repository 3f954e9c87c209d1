"""The command line: results go to stdout, messages to stderr. Each command imports what it needs.

Exit codes: 0 success; 1 finished with failed trials, or a check found a difference; 2 wrong input;
130 Ctrl-C and 143 SIGTERM or a lost Ray cluster, after which the same command resumes.
"""

import os
import sys

import typer

from archsearch.api.live import say
from archsearch.cli import count, launch, paper, probe, runs
from archsearch.running.stopping import StudyStopped

app = typer.Typer(
    help="Choose an InternImage variant under a budget, and a scaling rule you can trust.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (launch, paper, probe, count, runs):
    for command in module.COMMANDS:
        app.command()(command)


def main() -> None:
    """Run a command; print one message for wrong input, a traceback for our own mistakes."""
    try:
        app()
    except StudyStopped as stop:
        say(str(stop))
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError) as error:
        if os.environ.get("ARCHSEARCH_TRACEBACK"):
            raise
        say(f"archsearch: {error}")
        sys.exit(2)
