"""What a latency is measured on: this processor, onnxruntime on it, or a command."""

import math
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from archsearch.core.numbers import quoted

LOCAL = ("cpu", "onnxruntime")
FILE = "{onnx}"

TIMEOUT = 600.0
"""Seconds that a command may take."""

MAX_LINES = 10
"""The last lines of a command's output that an error shows."""

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?(?![\w.])", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """``cpu`` (torch on this processor), ``onnxruntime`` (on it), or a command.

    A command gets the path of an ONNX file as its last argument, or wherever it has ``{onnx}``; the
    last number that it prints is the latency in seconds. It is started without a shell.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Return the target that an option names.

        Raises:
            ValueError: the text is no command.
        """
        try:
            parts = shlex.split(text)
        except ValueError as error:
            raise ValueError(f"target {quoted(text)} is no command: {error}") from None
        if not any(parts) or parts == [FILE]:
            raise ValueError(
                f"target must be {', '.join(LOCAL)} or a command that takes an ONNX file and "
                f"prints seconds, got {quoted(text)}"
            )
        return cls(text.strip())

    @property
    def is_local(self) -> bool:
        """Whether this process runs the network itself."""
        return self.text in LOCAL

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages of the extra ``[onnx]`` that are needed."""
        runtime = ("onnxruntime",) if self.text == "onnxruntime" else ()
        return () if self.text == "cpu" else ("onnx", "onnxscript", *runtime)

    def printed_seconds(self, file: Path) -> float:
        """Run the command on an ONNX file and return the last number that it prints.

        Raises:
            ValueError: the command cannot be started, fails, takes longer than `TIMEOUT`, or prints
                no number above 0; the message has the end of its output.
        """
        try:
            ended = subprocess.run(
                self._command(file), stdin=subprocess.DEVNULL, capture_output=True,
                text=True, errors="replace", timeout=TIMEOUT, check=False,
            )  # fmt: skip
        except OSError as error:
            raise ValueError(f"the target {self.text} cannot be started: {error}") from None
        except subprocess.TimeoutExpired as error:
            output = "".join(
                text.decode(errors="replace") if isinstance(text, bytes) else text or ""
                for text in (error.stdout, error.stderr)
            )
            raise ValueError(self._message(f"took longer than {TIMEOUT:g} s", output)) from None
        if ended.returncode:
            problem = f"failed with exit code {ended.returncode}"
            raise ValueError(self._message(problem, ended.stdout + ended.stderr))
        numbers = _NUMBER.findall(ended.stdout)
        seconds = float(numbers[-1]) if numbers else math.nan
        if not 0 < seconds < math.inf:
            problem = "must print seconds above 0 as its last number"
            raise ValueError(self._message(problem, ended.stdout + ended.stderr))
        return seconds

    def _command(self, file: Path) -> list[str]:
        parts = shlex.split(self.text)
        if FILE not in self.text:
            return [*parts, str(file)]
        return [part.replace(FILE, str(file)) for part in parts]

    def _message(self, problem: str, output: str) -> str:
        lines = output.strip().splitlines()[-MAX_LINES:] or ["(nothing)"]
        return f"the target {self.text} {problem}; it printed:\n" + "\n".join(lines)
