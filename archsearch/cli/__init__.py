"""The command line: results go to stdout, messages to stderr. Each command imports what it needs.

Exit codes: 0 success; 1 finished with failed trials, or a check found a difference; 2 wrong input;
130 Ctrl-C, and 143 SIGTERM or a lost Ray cluster, after which the same command resumes; 141 if the
reader of stdout has left (`| head`).
"""

import sys

from archsearch.cli import streams


def main() -> None:
    """Run a command; its modules are loaded here, so that Ctrl-C is quiet from the start."""
    streams.prepare()
    with streams.quiet_ctrl_c():
        from archsearch.cli.commands import run
    sys.exit(streams.flushed(run()))
