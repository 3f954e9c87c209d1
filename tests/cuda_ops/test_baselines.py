"""The baselines' sources: adapted, cached, compiled once, and reported if they do not compile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import cpp_extension

from cuda_ops import baselines
from cuda_ops.timing import Shape

SHAPE = Shape("tiny", 1, 2, 3, 2)


class Loader:
    """Replaces torch's loader: records what it compiles, and when the sources were written."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, int]]] = []

    def __call__(self, *, name: str, sources: list[str], build_directory: str, **_: Any) -> Any:
        assert not Path(build_directory, "lock").exists()
        Path(build_directory, "lock").touch()  # a killed build leaves it behind
        self.calls.append((name, {path: Path(path).stat().st_mtime_ns for path in sources}))
        return object()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "theirs"
    (folder / "src" / "cuda").mkdir(parents=True)
    (folder / "src" / "cuda" / "dcnv3_cuda.cu").write_text(
        "#include <THC/THCAtomics.cuh>\n// 可变形\nAT_ASSERTM(input.type().is_cuda());\n",
        encoding="utf-8",
    )
    (folder / "src" / "vision.cpp").write_text("module")
    (folder / "src" / "README").write_text("not a source")
    return folder


def test_sources_are_adapted_and_compiled_once(
    sources: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loader = Loader()
    monkeypatch.setattr(cpp_extension, "load", loader)
    for _ in range(2):
        makers, left_out = baselines.find_baselines(sources)
        assert list(makers) == ["DCNv3"]
        assert left_out == {"DCNv4": f"no dcnv4_cuda.cu below {sources}"}
    assert "DCNv4 is left out: no dcnv4_cuda.cu" in capsys.readouterr().err
    first, second = loader.calls
    assert first == second
    cuda, module = sorted(map(Path, first[1]), key=lambda path: path.suffix, reverse=True)
    assert (cuda.name, module.name) == ("dcnv3_cuda.cu", "vision.cpp")
    assert cuda.read_text(encoding="utf-8") == (
        "#include <ATen/cuda/Atomic.cuh>\n// 可变形\nTORCH_CHECK(input.is_cuda());\n"
    )
    (sources / "src" / "vision.cpp").write_text("another module")
    baselines.find_baselines(sources)
    assert loader.calls[2][1].keys().isdisjoint(first[1])


@pytest.mark.parametrize("error", [ImportError("undefined symbol: _ZN2at"), OSError("CUDA_HOME")])
def test_an_extension_that_does_not_load_is_reported_and_left_out(
    sources: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    def load(**_: Any) -> None:
        raise error

    monkeypatch.setattr(cpp_extension, "load", load)
    makers, left_out = baselines.find_baselines(sources)
    assert makers == {}
    assert left_out["DCNv3"] == str(error)
    assert f"DCNv3 is left out: {error}" in capsys.readouterr().err


def test_the_softmax_for_the_official_operator_is_cast_to_its_dtype() -> None:
    class Extension:
        def dcnv3_forward(self, x: Any, _offset: Any, mask: Any, *numbers: Any) -> Any:
            assert x.dtype == mask.dtype == torch.float16
            assert torch.allclose(
                mask.reshape(1, 2, 3, 2, 9).float().sum(-1), torch.ones(()), atol=1e-2
            )
            assert numbers == (3, 3, 1, 1, 1, 1, 1, 1, 2, 16, 1.0, 256, 0)
            return x * 2

    call = baselines._dcnv3_maker(Extension())(SHAPE.groups)
    x, offset, mask = SHAPE.tensors(torch.float16, "cpu")
    assert torch.equal(call(x, offset, mask.float()), x * 2)  # softmax is float32 under autocast


def test_a_baseline_in_a_network_gets_contiguous_tensors_and_only_its_own_arguments() -> None:
    def make(groups: int) -> Any:
        def call(*tensors: torch.Tensor) -> torch.Tensor:
            assert groups == 2
            assert all(tensor.is_contiguous() for tensor in tensors)
            return tensors[0]

        return call

    operator = baselines.as_dcnv3(make)
    x, both = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 54)
    args = {"groups": 2, "kernel_size": 3, "padding": 1, "softmax": True}
    assert operator(x, both[..., :36], both[..., 36:], **args) is x
    with pytest.raises(ValueError, match="wanted kernel size 3, stride, padding and scale 1"):
        operator(x, both, both, **(args | {"offset_scale": 2.0}))
