"""An installed archsearch uses its own reports and studies where a folder has its own, too."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def notebook_folder(tmp_path: Path) -> Path:
    """A user's folder with packages that are called as ours are."""
    for name in ("reports", "studies", "internimage_notes"):
        package = tmp_path / "work" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('the user's own package')\n")
        (package / "page.html").touch()
    return tmp_path / "work"


def locations(folder: Path, path: Path | None) -> dict[str, str]:
    """Return the file of every module of ours, imported in ``folder``, with ``path`` in front."""
    names = ["archsearch.reports.cards", "archsearch.studies.grid", "internimage.config"]
    code = (
        "import importlib, json, sys\n"
        f"print(json.dumps({{n: importlib.import_module(n).__file__ for n in {names}}}))\n"
        "from archsearch.cli import main\n"
        "sys.argv = ['archsearch', 'grid', '--budget', '30M', '--plan']\n"
        "main()"
    )
    environment = os.environ | ({} if path is None else {"PYTHONPATH": str(path)})
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    files: dict[str, str] = json.loads(result.stdout.splitlines()[0])
    return files


def test_an_editable_installation_is_not_shadowed(notebook_folder: Path) -> None:
    files = locations(notebook_folder, None)
    assert {Path(file).resolve().is_relative_to(ROOT) for file in files.values()} == {True}


@pytest.mark.slow
def test_a_wheel_is_complete_and_not_shadowed(notebook_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"  # a build writes into its source
    shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(".*", "runs"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*command, tmp_path / "wheel", source], check=True, cwd=tmp_path)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    files = locations(notebook_folder, site)
    assert {Path(file).is_relative_to(site) for file in files.values()} == {True}
    contents = {str(file.relative_to(site)) for file in site.rglob("*")}
    assert {"archsearch/reports/page.html", "cuda_ops/csrc/cuda/float_forward.cu"} <= contents
    assert not any(name.startswith("archsearch/studies/results") for name in contents)
