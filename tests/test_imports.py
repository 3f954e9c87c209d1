"""Imports go one way, and planning loads nothing heavy."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALLOWED = {
    "cuda_ops": {"cuda_ops"},
    "internimage": {"cuda_ops", "internimage"},
    "archsearch": {"cuda_ops", "internimage", "archsearch"},
    "studies": {"cuda_ops", "internimage", "archsearch", "studies"},
    "reports": {"cuda_ops", "internimage", "archsearch", "reports"},
}
"""cuda_ops <- internimage <- archsearch <- studies, reports."""

HEAVY = ("torch", "ray", "optuna", "pandas", "numpy", "matplotlib", "scipy", "sklearn", "kornia",
         "fvcore")  # fmt: skip

LIGHT = (
    "archsearch.core.budget", "archsearch.families.internimage_cost", "archsearch.space.scaling",
    "archsearch.space.grid",
    "archsearch.study", "archsearch.paper.table_c", "archsearch.families.internimage",
    "internimage.config",
    "archsearch.studies.grid", "archsearch.studies.scale",
)  # fmt: skip


def imported_packages(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """The top-level package of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], node
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0], node


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_one_way(package: str) -> None:
    wrong = []
    for path in sorted((ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text())
        found = [(name, node) for name, node in imported_packages(tree) if name in ALLOWED]
        if path.is_relative_to(ROOT / "archsearch" / "cli"):
            found = [(n, node) for n, node in found if n not in ("studies", "reports")]
        wrong += [
            f"{path.relative_to(ROOT)}:{node.lineno} imports {name}"
            for name, node in found
            if name not in ALLOWED[package]
        ]
    assert wrong == []


def test_the_command_line_imports_studies_and_reports_inside_its_commands_only() -> None:
    for path in sorted((ROOT / "archsearch" / "cli").rglob("*.py")):
        tree = ast.parse(path.read_text())
        tops = ast.Module([node for node in tree.body if not _is_function(node)], [])
        assert {n for n, _ in imported_packages(tops)}.isdisjoint(("studies", "reports")), path


def _is_function(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def loaded_by(statement: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after ``statement``."""
    script = f"import sys\n{statement}\nprint(*({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_planning_and_counting_load_nothing_heavy() -> None:
    everything = f"import {', '.join(LIGHT)}"
    at_work = (
        "from archsearch.studies import grid, scale\n"
        "from archsearch.core.recipe import RECIPES\n"
        "grid.study(recipe=RECIPES['quick']), scale.study(recipe=RECIPES['quick'])\n"
        "from archsearch.families.internimage_space import MAIN\n"
        "from archsearch.space.grid import plan\n"
        "from archsearch.core.budget import Budget\n"
        "assert len(plan(MAIN, Budget.parse('1G'))) == 30"
    )
    assert loaded_by(f"{everything}\n{at_work}") == set()


def test_heavy_packages_would_be_seen() -> None:
    assert loaded_by("import numpy.linalg") == {"numpy"}
