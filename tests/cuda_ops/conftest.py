"""The backends of the operator's tests; "emulator" runs the CUDA kernels on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.cuda_emulator import library


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The `backend` for `dcnv3`, from the parameter of a test: that name, or "emulator"."""
    if request.param != "emulator":
        if request.param == "cuda" and not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        yield request.param
        return
    with library.emulated(request.getfixturevalue("emulator")):
        yield "cpu"  # the tensors are on the CPU, and so is what replaces its kernels
