"""For the whole suite: two workers on two cores compute with one thread each; commands run here."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cuda_emulator.library import Emulator

if os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch


def pytest_collection_finish() -> None:
    """Modules and collected tests live to the end: collections of garbage need not visit them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_cost_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the counted costs of tests apart from the user's."""
    os.environ["ARCHSEARCH_COST_CACHE"] = str(tmp_path_factory.mktemp("costs"))


@pytest.fixture
def run_cli(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command in this process: (exit code, stdout, stderr)."""
    from archsearch import cli  # the operator's tests run without its packages

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["archsearch", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capfd.readouterr()
        code = end.value.code
        return code if isinstance(code, int) else int(bool(code)), captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def emulator(request: pytest.FixtureRequest) -> Emulator:
    """The CUDA kernels for the CPU, built once per content."""
    from tests.cuda_emulator import library  # loads torch

    if library.MISSING:
        pytest.skip(library.MISSING)
    return library.load(request.config.cache.mkdir("cuda_emulator"))
