"""Building and the fallback, with a fake compiler except where a result must be computed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cuda_ops import __main__, architectures, build, cache, toolchain
from cuda_ops.build import Recipe
from cuda_ops.cache import cache_root
from cuda_ops.toolchain import BuildError
from tests.processes import Process, wait_for

# Logs each call, waits if {log}.slow exists, and creates the file after -o.
COMPILER = """#!/bin/sh
if [ "$1" = --version ]; then echo "compiler 1"; exit; fi
echo "$@" >> "{log}"
if [ -e "{log}.slow" ]; then echo $$ >> "{log}.slow"; sleep 60; fi
while [ "$1" != -o ]; do shift; done
echo built > "$2"
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe of two sources, in a folder whose name needs quoting for a shell and for ninja."""
    folder = tmp_path / "it's a $HOME: folder"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    compiler = folder / "compiler"
    compiler.write_text(COMPILER.format(log=log_of(folder)))
    compiler.chmod(0o755)
    sources = (folder / "a.cpp", folder / "b.cpp")
    for source in sources:
        source.write_text(source.name)
    return Recipe("cpu", lambda: (str(compiler),), sources, ("-DX='$1'",), ("-shared",))


def log_of(folder: Path) -> Path:
    return folder.parent / "log"


def calls(recipe: Recipe) -> list[str]:
    return log_of(recipe.sources[0].parent).read_text().splitlines()


def test_builds_once_and_prints_one_line(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recipe.find_built() is None
    path = build.build(recipe)
    assert path.read_text() == "built\n"
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.startswith("cuda_ops: building the cpu backend")
    assert " s (stored in " in printed
    assert sorted(line.split()[-1] for line in calls(recipe)) == ["a.cpp.o", "b.cpp.o", path.name]
    assert all("-DX='$1'" in line for line in calls(recipe) if "-c" in line)

    def no_compiler() -> tuple[str, ...]:
        raise BuildError("a built library needs no compiler")

    again = replace(recipe, find_compiler=no_compiler)
    assert build.build(again) == path
    assert len(calls(recipe)) == 3
    assert capsys.readouterr().err == ""


def test_an_unfinished_library_is_not_used(recipe: Recipe) -> None:
    part = cache.new_part(recipe.folder)
    part.mkdir(parents=True)
    (part / recipe.library.name).touch()
    assert recipe.find_built() is None


def test_a_changed_source_or_flag_changes_the_digest(recipe: Recipe) -> None:
    first = recipe.digest
    assert replace(recipe).digest == first
    assert replace(recipe, flags=("-O2",)).digest != first
    recipe.sources[0].write_text("other")
    again = replace(recipe).digest
    assert again != first
    (recipe.sources[0].parent / "new.h").write_text("a header")
    assert replace(recipe).digest != again


def test_a_library_for_more_architectures_is_used(recipe: Recipe) -> None:
    def of(*architectures: str) -> Recipe:
        return Recipe("cuda", recipe.find_compiler, recipe.sources, (), (), architectures)

    path = build.build(of("80", "90"))
    assert path.parent.name.endswith("-sm80_90")
    assert of("90").find_built() == path
    assert of("89").find_built() == path  # what is compiled for 8.0 runs on 8.9
    assert of("120").find_built() is None
    exact = Path(str(path).replace("-sm80_90", "-sm89"))
    shutil.copytree(path.parent, exact.parent)
    assert of("89").find_built() == exact
    assert of("86").find_built() == path


@pytest.mark.parametrize(
    ("code", "gpu", "runs"),
    [
        ("80", "86", True),
        ("86", "86", True),
        ("89", "86", False),
        ("80", "90", False),
        ("100", "103", True),
        ("10", "100", False),
        ("90a", "90a", True),
        ("90a", "90", False),
        ("100f", "103", False),
    ],
)
def test_code_runs_on_gpus_of_its_major_capability(code: str, gpu: str, runs: bool) -> None:
    assert architectures.runs_on(code, gpu) is runs


def test_a_cuda_library_does_not_depend_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    def digests() -> tuple[str, str]:
        return build.cuda_recipe(("80", "90")).digest, build.cpu_recipe().digest

    cuda, cpu = digests()
    assert build.cuda_recipe(("90",)).digest == cuda  # so a library for more of them is usable
    monkeypatch.setattr(build, "processor", lambda: "another")
    assert digests()[0] == cuda
    assert digests()[1] != cpu


def test_a_failure_shows_the_compilers_error(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(recipe.find_compiler()[0]).write_text(
        "#!/bin/sh\necho 'a.cpp:1: error: no such thing' >&2; seq 99; exit 1\n"
    )
    with pytest.raises(BuildError, match="error: no such"):
        build.build(recipe)
    assert capsys.readouterr().err.endswith("failed\n")
    assert [path.suffix for path in cache_root().iterdir()] == [".lock"]


def test_concurrent_builds_compile_once(recipe: Recipe) -> None:
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(build.build(recipe))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [recipe.library] * 4
    assert len(calls(recipe)) == 3


def test_a_killed_build_does_not_block_the_next(recipe: Recipe) -> None:
    slow = Path(str(log_of(recipe.sources[0].parent)) + ".slow")
    slow.touch()
    program = (
        "from pathlib import Path; from cuda_ops import build; "
        f"build.build(build.Recipe('cpu', lambda: {recipe.find_compiler()!r}, "
        f"tuple(map(Path, {tuple(map(str, recipe.sources))!r})), "
        f"{recipe.flags!r}, {recipe.link_flags!r}))"
    )
    compiling: list[int] = []
    process = Process([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    try:
        wait_for(slow.read_text)
        process.kill()
        process.wait()
        leftover = list(cache_root().glob("part-*"))
        assert leftover
        compiling = [int(line) for line in slow.read_text().split()]
        slow.unlink()
        assert build.build(recipe).read_text() == "built\n"  # while the orphans still run
        assert not leftover[0].exists()
    finally:
        process.kill()
        for pid in compiling:
            os.kill(pid, signal.SIGKILL)


def test_a_cache_that_is_not_writable_is_named(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(recipe.sources[0]))  # a file
    with pytest.raises(BuildError, match="set XDG_CACHE_HOME"):
        build.build(recipe)


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(BuildError, match="no C\\+\\+ compiler was found"):
        toolchain.find_compiler()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BuildError, match="'no-such-compiler'"):
        toolchain.find_compiler()
    with pytest.raises(BuildError, match="nvcc was not found"):
        toolchain.find_nvcc()
    assert toolchain.find_ninja()  # the ninja package's, although PATH is empty


def test_ninja_is_found_on_path_if_its_package_has_no_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import ninja

    monkeypatch.setattr(ninja, "BIN_DIR", str(tmp_path / "empty"))
    program = tmp_path / "ninja"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert toolchain.find_ninja() == str(program)
    monkeypatch.setenv("PATH", "")
    assert toolchain.find_ninja() is None


def test_without_ninja_the_same_commands_run(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.build(recipe)
    with_ninja = sorted(calls(recipe))
    log_of(recipe.sources[0].parent).unlink()
    recipe.library.unlink()
    monkeypatch.setattr(build, "find_ninja", lambda: None)
    assert build.build(recipe).read_text() == "built\n"
    assert sorted(calls(recipe)) == with_ninja
    assert len(with_ninja) == 3


def test_without_ninja_a_compiler_error_is_reported(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    (compiler,) = recipe.find_compiler()
    Path(compiler).write_text("#!/bin/sh\necho error: $3 is wrong >&2; exit 1\n")
    monkeypatch.setattr(build, "find_ninja", lambda: None)
    with pytest.raises(BuildError, match=r"the compiler failed:\nerror: .*a\.cpp is wrong"):
        build.build(recipe)


def test_the_cuda_recipe_names_its_architectures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda" / "kernels.cu").touch()
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    recipe = build.cuda_recipe(("90", "80", "90"))
    assert recipe.architectures == ("80", "90")
    assert "-gencode=arch=compute_90,code=sm_90" in recipe.gencode
    monkeypatch.setattr(build, "find_usable_nvcc", lambda: ("nvcc",))
    rules = build.ninja_file(build.cuda_recipe(("80", "90")))
    compiling, linking = (line for line in rules.splitlines() if "command" in line)
    assert "code=sm_80" in compiling
    assert "code=sm_90" in linking
    with pytest.raises(BuildError, match="wanted compute capabilities such as 80,90"):
        build.cuda_recipe(("hopper",))
    with pytest.raises(BuildError, match=r"of 80 or higher, got \['75'\]"):
        build.cuda_recipe(("75", "90"))


def show_gpus(monkeypatch: pytest.MonkeyPatch, *capabilities: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capabilities[index])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")


def test_a_gpu_that_is_too_old_does_not_exclude_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show_gpus(monkeypatch, (9, 0), (7, 5), (9, 0), (8, 6))
    assert build.cuda_recipe().architectures == ("86", "90")
    __main__.doctor()
    printed = capsys.readouterr().out
    assert "GPU 0: Card 0, compute capability 9.0\n" in printed
    assert "GPU 1: Card 1, compute capability 7.5; the CUDA kernels need 8.0\n" in printed


def test_only_gpus_that_are_too_old_are_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show_gpus(monkeypatch, (7, 5), (6, 1))
    with pytest.raises(BuildError, match=r"8\.0 or higher; the visible GPUs have 6\.1, 7"):
        build.cuda_recipe()
    __main__.doctor()
    assert "cuda  not usable the CUDA kernels need a GPU of" in capsys.readouterr().out
    show_gpus(monkeypatch)
    with pytest.raises(BuildError, match="no GPU is visible; name its compute capability"):
        build.cuda_recipe()


@pytest.mark.parametrize("cuda", [None, "12.8", "13.0", "14.1"])
def test_an_nvcc_that_is_newer_than_the_driver_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cuda: str | None
) -> None:
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 13.2, V13.2.88'\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(torch.version, "cuda", cuda)
    if cuda != "12.8":
        assert build.cuda_recipe(("90",)).find_compiler() == (str(nvcc),)
        return
    message = r"is part of CUDA 13\.2, and torch was built for CUDA 12\.8: install"
    with pytest.raises(BuildError, match=message):
        _ = build.cuda_recipe(("90",)).find_compiler()


def test_an_nvcc_that_names_no_release_is_an_error(tmp_path: Path) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'no license' >&2; exit 3\n")
    with pytest.raises(BuildError, match="cannot be run: Permission denied"):
        toolchain.nvcc_release(str(nvcc))
    nvcc.chmod(0o755)
    with pytest.raises(BuildError, match="names no release; it printed: no license"):
        toolchain.nvcc_release(str(nvcc))


WITHOUT_A_COMPILER = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from cuda_ops import backends, dcnv3
    import torch
    before = backends()["cpu"]
    inputs = [torch.randn(2, 4, 3, last, requires_grad=True) for last in (6, 36, 18)]
    out = dcnv3(*inputs, groups=2, softmax=True)
    grads = torch.autograd.grad(out.sum(), inputs)
    dcnv3(*inputs, groups=2)
wanted = dcnv3(*inputs, groups=2, softmax=True, backend="torch")
assert torch.allclose(out, wanted, atol=1e-6)
for got, true in zip(grads, torch.autograd.grad(wanted.sum(), inputs)):
    assert torch.allclose(got, true, atol=1e-5)
assert len(caught) == 1, [str(w.message) for w in caught]
warning = str(caught[0].message)
assert "no C++ compiler was found" in warning and "install one" in warning, warning
assert "python -m cuda_ops build" in warning
assert not before.usable and "no C++ compiler" in before.detail
try:
    dcnv3(*inputs, groups=2, backend="cpu")
except RuntimeError as error:
    assert "no C++ compiler was found" in str(error)
else:
    raise AssertionError("backend='cpu' ran without a native backend")
"""


def test_without_a_compiler_there_is_one_warning_and_the_same_results(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_COMPILER],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_macs_need_no_torch_and_imports_build_nothing() -> None:
    program = (
        "import sys, cuda_ops; assert cuda_ops.dcnv3_macs(10, 16) == 7200; "
        "assert 'torch' not in sys.modules; from cuda_ops import dcnv3; "
        "from cuda_ops import native; assert not native._errors"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
