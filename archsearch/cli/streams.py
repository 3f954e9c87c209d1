"""The standard streams of a command: closed ones, narrow encodings, and a reader that has left.

This module loads nothing heavy, because it is used before everything else.
"""

import codecs
import io
import os
import signal
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

CLOSED_PIPE = 128 + signal.SIGPIPE
"""The exit code of a command whose reader has left, as after ``| head``."""

PLAIN = {
    "α": "alpha", "β": "beta", "φ": "phi", "–": "-", "−": "-", "×": "x", "′": "'", "→": "->",
    "±": "+-", "·": ".", "≤": "<=", "≥": ">=",
}  # fmt: skip
"""ASCII for a character that the encoding of a stream does not have."""


def prepare() -> None:
    """Open closed streams on the null device, and let no character stop a command."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The lowest free descriptor: no file of the run gets the number of a stream.
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(null, "w" if number else "r", encoding="utf-8"))
    codecs.register_error("archsearch", _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="archsearch")


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII for characters that cannot be encoded: alpha for α, 1 for ₁, ? for others."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    decomposed = unicodedata.normalize("NFKD", character)
    return PLAIN.get(character) or decomposed.encode("ascii", "ignore").decode() or "?"


def holds_unicode(stream: TextIO) -> bool:
    """Return whether the stream has every character."""
    return codecs.lookup(stream.encoding or "ascii").name.startswith("utf")


@contextmanager
def quiet_ctrl_c() -> Iterator[None]:
    """End the process at once on Ctrl-C: while modules are loaded there is nothing to save."""
    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.default_int_handler:  # ignored, as in the background of a shell
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def flushed(code: int) -> int:
    """Flush the streams at the end; return the exit code, another one if results were lost."""
    for stream in (sys.stderr, sys.stdout):
        try:
            stream.flush()
        except OSError as error:
            # Python would complain at exit: what the stream still holds goes to the null device.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout:
                code = CLOSED_PIPE if isinstance(error, BrokenPipeError) else code or 2
    return code
