"""The self-check of the CUDA kernels, with the emulated kernels as a GPU that is right or wrong."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cuda_ops import ConvArgs, build, doctor, native, self_check
from cuda_ops.check_mode import VARIABLE, check_mode
from cuda_ops.reference import dcnv3_loops, dcnv3_torch
from tests.cuda_emulator.library import Emulator, emulated, settings
from tests.cuda_ops.op_cases import Case

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
RIGHT, WRONG = -1, 3  # `defective_lane`


@pytest.mark.parametrize("call", self_check.CALLS, ids=lambda call: str(call[0]))
def test_the_vectorized_results_equal_the_definition(call: tuple[ConvArgs, int, int, int]) -> None:
    inputs = self_check.inputs_of(*call)
    for dtype in self_check.TOLERANCE:
        assert all(torch.equal(tensor.to(dtype).double(), tensor) for tensor in inputs)
    leaves = [tensor.clone().requires_grad_() for tensor in inputs[:3]]
    out = dcnv3_loops(*leaves, call[0])
    wanted = (out, *torch.autograd.grad(out, leaves, inputs[3]))
    for ours, theirs in zip(self_check.by_definition(inputs, call[0]), wanted, strict=True):
        assert (ours - theirs).abs().max() <= 1e-12


def test_right_kernels_pass_and_wrong_ones_do_not(emulator: Emulator) -> None:
    emulator.take_counts()
    with emulated(emulator):
        assert self_check.differences(CPU) == []
    assert emulator.take_counts()["launches"] > 0
    with emulated(emulator, settings(defective_lane=WRONG)):
        lines = self_check.differences(CPU)
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        for result in self_check.RESULTS:
            assert any(line.startswith(result) and f"{dtype}: error" in line for line in lines)


@pytest.fixture
def loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> Iterator[Callable[[int], bool]]:
    """Loads the CUDA backend, as a new process does, on one GPU whose kernels are emulated.

    The library in the cache is the emulator's, and tensors of the check are on the CPU.
    """
    on_gpu = self_check.differences
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Emulated GPU")
    monkeypatch.setattr(self_check, "DRIVER", tmp_path / "driver")
    (tmp_path / "driver").write_text("NVRM version: NVIDIA UNIX Module  580.82.07  Aug 27 2025\n")
    monkeypatch.setattr(self_check, "differences", lambda _: on_gpu(CPU))
    monkeypatch.setattr(self_check, "CALLS", self_check.CALLS[:1])
    library = tmp_path / "cuda-of-the-test" / "dcnv3_cuda.so"
    library.parent.mkdir()
    library.symlink_to(emulator.path)
    monkeypatch.setattr(build.Recipe, "find_built", lambda _: library)

    def load(defective_lane: int) -> bool:
        monkeypatch.setattr(native, "_errors", {})
        monkeypatch.setattr(native, "_warned", set())
        with emulated(emulator, settings(defective_lane=defective_lane)):
            return native.load(GPU)

    monkeypatch.setattr(native, "_replacements", replacements := [])
    yield load
    for replacement in replacements:
        replacement._destroy()
    assert not list(library.parent.glob("part-*"))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """The stored result of that GPU, its driver and the library."""
    return tmp_path / "cuda-of-the-test" / "self-check-9.0-580.82.07.json"


def on_cuda(x: Tensor, offset: Tensor, mask: Tensor, args: ConvArgs) -> Tensor:
    """What the dispatcher runs for tensors on a GPU, with tensors on the CPU."""
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    out: Tensor = torch.ops.archsearch.dcnv3.default.redispatch(key, x, offset, mask, *args)
    return out


def test_a_right_gpu_is_checked_once(
    loads: Callable[[int], bool], emulator: Emulator, stored: Path
) -> None:
    assert loads(RIGHT)
    assert json.loads(stored.read_text())["differences"] == []
    emulator.take_counts()
    assert loads(WRONG), "the stored result counts"
    assert emulator.take_counts()["launches"] == 0
    assert "GPU 0, driver 580.82.07: passed" in list(doctor.report())
    # Another driver is not known yet.
    self_check.DRIVER.write_text("NVRM version: NVIDIA UNIX Module  590.1  Jan 1 2026\n")
    assert "GPU 0, driver 590.1: not checked yet; the first call checks" in list(doctor.report())
    with pytest.warns(RuntimeWarning, match="found wrong numbers"):
        assert not loads(WRONG)


def test_wrong_numbers_warn_once_and_the_vectorized_code_runs(
    loads: Callable[[int], bool],
) -> None:
    with pytest.warns(RuntimeWarning) as record:
        assert not loads(WRONG) and not native.load(GPU)  # noqa: PT018
    assert len(record) == 1
    message = str(record[0].message)
    assert "on Emulated GPU (compute capability 9.0, driver 580.82.07) found wrong" in message
    assert "`archsearch doctor` shows all" in message
    case = Case(ConvArgs(2, softmax=True))
    x, offset, mask, _ = case.tensors(torch.float32)
    assert torch.equal(on_cuda(x, offset, mask, case.args), dcnv3_torch(x, offset, mask, case.args))
    with pytest.raises(RuntimeError, match="The self-check on Emulated GPU"):
        native.require("cuda", GPU)
    lines = list(doctor.report())
    assert any(line.startswith("cuda  not usable The self-check on Emulated") for line in lines)
    assert any(line.startswith("GPU 0, driver 580.82.07: wrong numbers on") for line in lines)
    assert any(line.startswith("  gradient of x of kernel size 3, 16 channels") for line in lines)


def test_a_stored_failure_is_not_computed_again_unless_always(
    loads: Callable[[int], bool], emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(RuntimeWarning, match="wrong numbers"):
        assert not loads(WRONG)
    emulator.take_counts()
    with pytest.warns(RuntimeWarning, match="wrong numbers"):
        assert not loads(RIGHT)
    assert emulator.take_counts()["launches"] == 0
    monkeypatch.setenv(VARIABLE, "always")
    assert loads(RIGHT)
    monkeypatch.delenv(VARIABLE)
    assert loads(WRONG), "a later check replaces an earlier one"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"gpu": "x"}', '{"gpu": 1, "differences": 2}'])
def test_an_unreadable_result_is_computed_again(
    loads: Callable[[int], bool], stored: Path, content: str
) -> None:
    assert loads(RIGHT)
    stored.write_text(content)
    with pytest.warns(RuntimeWarning, match="wrong numbers"):
        assert not loads(WRONG)
    assert json.loads(stored.read_text())["differences"]


def test_off_checks_nothing(
    loads: Callable[[int], bool],
    emulator: Emulator,
    stored: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    emulator.take_counts()
    assert loads(WRONG)
    assert emulator.take_counts()["launches"] == 0
    assert not stored.exists()


def test_a_wrong_mode_is_an_error_before_anything_is_built(
    loads: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "never")
    monkeypatch.setattr(build, "build", lambda _: pytest.fail("built"))
    for call in (check_mode, lambda: loads(RIGHT), lambda: list(doctor.report())):
        with pytest.raises(ValueError, match=r"is 'never'; set it to once, always or off"):
            call()


def test_one_gpu_of_each_kind_is_checked_and_first_the_one_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    capabilities = [(9, 0), (9, 0), (8, 6), (7, 5), (8, 6)]
    monkeypatch.setattr(self_check, "visible_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.cuda, "get_device_name", str)
    kinds = self_check.one_of_each_kind(torch.device("cuda", 1))
    assert sorted(gpu.index for gpu in kinds) == [1, 2]


def test_a_driver_that_linux_does_not_report_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(self_check, "DRIVER", tmp_path / "none")
    assert self_check.driver_version() == "unknown"


def test_a_folder_that_cannot_be_written_checks_each_time(
    loads: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(self_check.tempfile, "mkstemp", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loads(RIGHT)
    with pytest.warns(RuntimeWarning, match="wrong numbers"):
        assert not loads(WRONG)
