"""The emulator's own checks: each finds the mistake it is for, and no correct kernel is stopped."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import pytest

from cuda_ops import build
from tests.cuda_emulator.library import FLAGS, HERE, Emulator, core_recipe, linked_to, settings
from tests.cuda_emulator.rewrite import Fault, rewritten, source_texts, with_fault


@pytest.fixture(scope="module")
def mistakes(request: pytest.FixtureRequest, emulator: Emulator) -> ctypes.CDLL:
    emulator.set(settings(max_turns=10_000))
    cache = request.config.cache.mkdir("cuda_emulator")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        recipe = replace(
            core_recipe(),
            backend="mistakes",
            sources=(HERE / "mistakes.cpp",),
            flags=(*FLAGS, "-O1"),
            link_flags=("-shared", *linked_to(build.build(core_recipe()))),
        )
        library = ctypes.CDLL(str(build.build(recipe)))
    library.run_mistake.restype = ctypes.c_char_p
    return library


@pytest.mark.parametrize("name", ["correct", "all return"])
@pytest.mark.parametrize("order", ["first", "last", "random"])
def test_correct_kernels_are_not_stopped(
    mistakes: ctypes.CDLL, emulator: Emulator, name: str, order: str
) -> None:
    emulator.set(settings(order=order))
    assert mistakes.run_mistake(name.encode()) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("early return", "a lane ends while others of its warp wait"),
        ("early return of a warp", "a thread ends while others wait at __syncthreads"),
        ("partial mask", "with the partial mask ffff"),
        ("two collectives", "while lane 0 waits at line"),
        ("barrier in a branch", "while lane 0 waits at line"),
        ("two barriers", "while others wait at line"),
        ("never ends", "has not ended after 10000 turns"),
        ("misaligned load", "a misaligned load of 16 bytes"),
        ("too many threads", "more than the 32 threads of __launch_bounds__"),
        ("part of a warp", "fewer than 32 lanes"),
        ("too much shared memory", "invalid argument"),
        ("an empty grid", "invalid configuration"),
        ("a large block", "invalid configuration"),
    ],
)
def test_a_mistake_is_found(
    mistakes: ctypes.CDLL, emulator: Emulator, name: str, message: str
) -> None:
    emulator.set(settings(max_turns=10_000))
    assert message in mistakes.run_mistake(name.encode()).decode()
    assert mistakes.run_mistake(b"correct") is None  # a stopped kernel leaves nothing behind


def test_a_construct_that_no_rule_knows_is_an_error() -> None:
    texts = source_texts()
    shared = "extern __shared__ __align__(16) unsigned char shared[];"
    fault = Fault("grad_x.cuh", "  Step step{", f"  {shared}\n  Step step{{")
    with pytest.raises(AssertionError, match="3 times instead of 2"):
        rewritten(with_fault(texts, fault))
    with pytest.raises(AssertionError, match="has 0 times"):
        with_fault(texts, Fault("grad_x.cuh", "no such line", ""))


def test_nothing_that_only_nvcc_understands_remains() -> None:
    for path, text in rewritten(source_texts()).items():
        for construct in ("<<<", "__global__", "__shared__", "__launch_bounds__", "asm("):
            code = "\n".join(line.partition("//")[0] for line in text.splitlines())
            assert construct not in code, (path, construct)
