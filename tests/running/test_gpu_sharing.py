"""Trainings share a GPU where memory, cores and idle time allow it."""

from dataclasses import replace
from pathlib import Path

import pytest

from archsearch.core.recipes import QUICK
from archsearch.core.task import Data
from archsearch.families.internimage import Variant
from archsearch.running.estimate import Estimate
from archsearch.running.gpu_sharing import trainings_per_gpu
from archsearch.study import Trial
from archsearch.training import machine

GB = 10**9
DATA = Data("digits", "0" * 16, 10, 1, 1000, 300, 300)
VARIANT = Variant(16, 8, 1, 2)
TRIALS = [Trial(VARIANT, replace(QUICK, epochs=2), DATA, seed) for seed in range(3)]
BUSY = 3 * VARIANT.cost(32, 32, 10).macs * 2 * 1000 / 1e13
"""Seconds of arithmetic per trial: two epochs of 1000 images, three passes each."""


def estimate(seconds: float = 30.0, peak_bytes: int | None = 2 * GB) -> Estimate:
    times = {trial.id: seconds for trial in TRIALS[:2]}  # the third one has a record already
    return Estimate(times, 0.0, 1, peak_bytes, 80 * GB, (), ())


def test_a_gpu_that_is_mostly_idle_is_shared_up_to_the_limit() -> None:
    assert trainings_per_gpu(estimate(), TRIALS, 80 * GB, 16) == 4


@pytest.mark.parametrize(("free", "trainings"), [(3, 1), (7.2, 2), (11, 3), (14.3, 4)])
def test_memory_limits_sharing(free: float, trainings: int) -> None:
    """Each needs 1.25 times 2 GB and a context of 1.07 GB."""
    assert trainings_per_gpu(estimate(), TRIALS, round(free * GB), 16) == trainings


def test_cores_limit_sharing() -> None:
    assert [trainings_per_gpu(estimate(), TRIALS, 80 * GB, cores) for cores in (0, 1, 3)] == [
        1,
        1,
        3,
    ]


@pytest.mark.parametrize(("times_busy", "trainings"), [(0.9, 1), (1.9, 1), (2.1, 2), (3.5, 3)])
def test_arithmetic_limits_sharing(times_busy: float, trainings: int) -> None:
    assert trainings_per_gpu(estimate(times_busy * BUSY), TRIALS, 80 * GB, 16) == trainings


def test_nothing_is_shared_where_the_memory_of_a_training_is_unknown() -> None:
    assert trainings_per_gpu(estimate(peak_bytes=None), TRIALS, 80 * GB, 16) == 1


@pytest.mark.parametrize(
    ("names", "script", "free"),
    [
        (("GPU-a", "1"), 'test "$1" = --id=GPU-a,1 && echo 900 && echo 700', 700 << 20),
        (("MIG-a",), "echo '[Insufficient Permissions]'", None),
        (("GPU-a",), "echo 900; exit 6", None),
        (("GPU-a", "1"), "echo 900", None),
        ((), "echo 900", None),
    ],
)
def test_free_memory_is_that_of_the_fullest_gpu(
    names: tuple[str, ...], script: str, free: int | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fake = tmp_path / "nvidia-smi"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine.free_gpu_bytes(names) == free
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert machine.free_gpu_bytes(names) is None
