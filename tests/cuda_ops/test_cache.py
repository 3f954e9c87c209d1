"""The cache of built libraries: other users, damage, other machines, odd environments."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cuda_ops import __main__, build, cache, native, toolchain
from cuda_ops.build import Recipe
from cuda_ops.toolchain import BuildError, compiler_identity, find_compiler

# An empty library for the dynamic loader: nothing of torch is in it.
SOURCE = 'extern "C" int answer() { return 42; }\n'


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe of a library that can be loaded, in an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "source" / "answer.cpp"
    source.parent.mkdir()
    source.write_text(SOURCE)
    return Recipe("cpu", find_compiler, (source,), ("-fPIC",), ("-shared",))


def break_permanently(recipe: Recipe) -> Recipe:
    """The recipe of a library that never loads, because it needs a function that nobody has."""
    recipe.sources[0].write_text("void nowhere(); struct Call { Call() { nowhere(); } } call;\n")
    return replace(recipe, link_flags=("-shared", "-Wl,-z,now"))


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o002, 0o775), (0o077, 0o700)])
def test_a_library_is_as_readable_as_the_users_other_files(
    recipe: Recipe, umask: int, mode: int
) -> None:
    previous = os.umask(umask)
    try:
        path = build.build(recipe)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.parent.stat().st_mode) == mode
    assert all(p.stat().st_mode & 0o444 == mode & 0o444 for p in path.parent.iterdir())


@pytest.mark.parametrize("damage", ["cut", "flipped", "no checksum"])
def test_a_damaged_library_is_replaced_and_named(
    recipe: Recipe, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = build.build(recipe)
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:1000])
    elif damage == "flipped":
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    else:
        (path.parent / "sha256").unlink()
    assert recipe.find_built() is None
    capsys.readouterr()
    assert native.load_library(recipe) == path
    assert f"{path} is damaged; it is built again" in capsys.readouterr().err
    assert len(path.read_bytes()) == len(whole)
    assert recipe.find_built() == path


def make_unloadable(path: Path) -> None:
    """As a library of another machine: whole, but the loader refuses it."""
    path.write_bytes(b"not a library")
    (path.parent / "sha256").write_text(cache._checksum(path))


def test_a_library_that_cannot_be_loaded_is_replaced_and_named(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    path = build.build(recipe)
    make_unloadable(path)
    capsys.readouterr()
    assert native.load_library(recipe) == path
    assert f"{path} cannot be loaded; it is built again" in capsys.readouterr().err
    assert path.read_bytes().startswith(b"\x7fELF")


def test_a_process_that_waits_for_the_rebuild_of_another_uses_it(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    path = build.build(recipe)
    make_unloadable(path)
    unloadable = cache.identity(path)
    cache.discard(path)
    assert build.rebuild(recipe, path) == path  # the first process
    (path.parent / "rebuilt").unlink()
    capsys.readouterr()
    for identity in (unloadable, ""):  # seen before, and while the first process built
        assert build._build_locked(recipe, identity) == path
    assert capsys.readouterr().err == ""


def test_if_building_again_does_not_help_it_happens_once(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = break_permanently(recipe)
    message = "was built here and cannot be loaded: .*nowhere.*Set CXX .* or XDG_CACHE_HOME"
    for num_builds in (2, 0):  # the first try and its repetition; nothing in the next process
        with pytest.raises(BuildError, match=message):
            native.load_library(broken)
        assert capsys.readouterr().err.count("building the cpu backend") == num_builds
    with pytest.raises(BuildError, match=message):
        native.load_library(broken, even_if_rebuilt=True)
    assert capsys.readouterr().err.count("building the cpu backend") == 1


def test_the_command_builds_again_what_cannot_be_loaded(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "cpu_recipe", lambda: recipe)
    path = build.build(recipe)
    make_unloadable(path)
    (path.parent / "rebuilt").touch()
    assert __main__.main(["build", "--backend", "cpu"]) == 0
    assert capsys.readouterr().out == f"cpu: {path}\n"
    monkeypatch.setattr(build, "cpu_recipe", lambda: break_permanently(recipe))
    assert __main__.main(["build", "--backend", "cpu"]) == 2
    assert "cpu: not built. " in capsys.readouterr().err


def test_the_compiler_and_the_c_library_are_part_of_the_name(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build.build(recipe)
    monkeypatch.setattr(build, "compiler_identity", lambda _: "another version")
    assert replace(recipe).find_built() is None
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(path.parents[3]))
    assert replace(recipe).find_built() == path
    monkeypatch.setattr(build, "c_library", lambda: "glibc 2.0")
    assert replace(recipe).find_built() is None


def test_the_c_library_is_named() -> None:
    if sys.platform == "linux":
        assert toolchain.c_library() == " ".join(os.confstr("CS_GNU_LIBC_VERSION").split())  # type: ignore[union-attr]


@pytest.mark.parametrize("arguments", ["", "-m64", "-DNAME='two words'"])
@pytest.mark.parametrize("wrapper", [True, False])
def test_cxx_may_hold_a_wrapper_and_arguments(
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrapper: bool,
    arguments: str,
) -> None:
    compiler = find_compiler()[0]
    launcher = tmp_path / "launcher"
    launcher.write_text('#!/bin/sh\nexec "$@"\n')
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    command = f"launcher {compiler}" if wrapper else compiler
    monkeypatch.setenv("CXX", f"{command} {arguments}".strip())
    plain = replace(recipe, find_compiler=lambda: (compiler,))
    assert (replace(recipe).compiler_digest == plain.compiler_digest) == (
        not wrapper and not arguments
    )
    assert native.load_library(recipe).exists()


def test_a_cxx_that_is_no_command_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++ '-DX")
    with pytest.raises(BuildError, match='CXX is "g\\+\\+ \'-DX", which is not a command'):
        find_compiler()


def test_a_compiler_that_does_not_work_is_refused_in_words(tmp_path: Path) -> None:
    program = tmp_path / "c++"
    program.write_text("#!/bin/sh\necho no license >&2; exit 3\n")
    with pytest.raises(BuildError, match="cannot be run: Permission denied"):
        compiler_identity((str(program),))
    program.chmod(0o755)
    with pytest.raises(BuildError, match="--version failed: no license"):
        compiler_identity((str(program),))


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_enough(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(_file: object, _operation: int) -> None:
        raise OSError(code, os.strerror(code))

    running = cache.new_part(recipe.folder)  # of another process
    running.mkdir(parents=True)
    monkeypatch.setattr(fcntl, "flock", flock)
    assert build.build(recipe) == recipe.library
    assert running.exists()


def test_without_locks_the_first_of_two_builds_is_kept(recipe: Recipe) -> None:
    path = build.build(recipe)
    first = cache.identity(path)
    part = cache.new_part(recipe.folder)
    shutil.copytree(path.parent, part)
    cache.store(part, path, replaces_unloadable=False)
    assert cache.identity(path) == first


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_an_error_of_the_file_system_is_in_words(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def store(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(cache, "store", store)
    with pytest.raises(BuildError, match=f"{os.strerror(code)}.*set XDG_CACHE_HOME"):
        build.build(recipe)
    assert list(recipe.folder.parent.glob("part-*")) == []


def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def getpwuid(user: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


def test_without_a_home_folder_the_message_names_xdg_cache_home(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_home(monkeypatch)
    message = "HOME is not set, and user .* set XDG_CACHE_HOME"
    with pytest.raises(BuildError, match=message):
        build.build(recipe)
    monkeypatch.setattr(native, "_errors", {})
    assert __main__.main(["doctor"]) == 0
    assert capsys.readouterr().out.count("HOME is not set") >= 2  # the cache and the CPU backend
    assert __main__.main(["build", "--backend", "cpu"]) == 2
    assert "cpu: not built. there is no cache folder: HOME" in capsys.readouterr().err


def test_without_a_home_folder_the_reference_runs_with_one_warning() -> None:
    program = """
import os, pwd, warnings
os.environ.pop("HOME", None)
os.environ.pop("XDG_CACHE_HOME", None)
def getpwuid(user): raise KeyError(user)
pwd.getpwuid = getpwuid
import torch
from cuda_ops import dcnv3
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        dcnv3(*(torch.ones(1, 4, 4, n) for n in (16, 18, 9)), groups=1)
assert len(caught) == 1 and "set XDG_CACHE_HOME" in str(caught[0].message), caught
"""
    subprocess.run([sys.executable, "-c", program], check=True)
