"""Imports: planning and counting load nothing heavy, and packages import only lower layers."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

HEAVY = ("torch", "ray", "optuna", "pandas", "numpy", "matplotlib", "scipy", "sklearn", "kornia",
         "fvcore", "rich", "statsmodels")  # fmt: skip

LIGHT = (
    "archsearch",
    "archsearch.core.budget", "archsearch.core.family", "archsearch.core.task",
    "archsearch.families.internimage", "archsearch.families.internimage_cost",
    "archsearch.heads.cost", "archsearch.heads",
    "archsearch.networks", "archsearch.paper.table_c",
    "archsearch.space.grid", "archsearch.space.scaling", "archsearch.space.search_space",
    "archsearch.storage.checkpoint", "archsearch.storage.study_folder",
    "archsearch.studies.grid", "archsearch.studies.scale", "archsearch.study",
    "internimage", "internimage.config",
)  # fmt: skip


def heavy_after(statements: str) -> set[str]:
    """Return the heavy packages that a new interpreter has loaded after these statements."""
    script = f"import sys\n{statements}\nprint(*({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


PLANNING = """
from archsearch.core.budget import Budget
from archsearch.core.recipes import RECIPES
from archsearch.families.internimage_space import MAIN
from archsearch.space.search_space import domain_of
from archsearch.studies import grid, scale
grid.study(recipe=RECIPES["quick"]), scale.study(recipe=RECIPES["quick"])
assert sum(1 for _ in domain_of(MAIN, Budget.parse("30M")).variants()) > 50
"""

COUNTING = """
import archsearch
assert archsearch.count("T").params == 29_918_424
"""

NAMES = "import internimage; internimage.PRESETS; dir(internimage)"

STATEMENTS = {module: f"import {module}" for module in LIGHT} | {
    "planning": PLANNING,
    "counting": COUNTING,
    "names of networks": NAMES,
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_planning_and_counting_load_nothing_heavy(name: str) -> None:
    assert heavy_after(STATEMENTS[name]) == set()


@pytest.mark.parametrize(
    "command",
    ["--help", "grid --plan", "study ablation --plan", "count T", "exponent S", "verify",
     "weight-sharing"],
)  # fmt: skip
def test_commands_that_train_nothing_load_nothing_heavy(command: str) -> None:
    arguments = command.split() if command == "--help" else [*command.split(), "--format", "json"]
    run = f"""
sys.argv = ["archsearch", *{arguments!r}]
from archsearch.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert heavy_after(run) == set()


def test_the_power_of_a_plan_needs_no_torch() -> None:
    heavy = heavy_after("import archsearch; archsearch.power(sd=0.8).rows()")
    assert heavy == {"numpy", "scipy"}
    assert heavy_after("import archsearch.cli.power") == set()


def test_a_search_is_described_without_optuna() -> None:
    assert "optuna" not in heavy_after("import archsearch.searching.search")


def test_reports_and_statistics_load_no_more_of_scipy_than_they_use() -> None:
    """The import of scipy.stats takes longer than most reports; one function of it was used."""
    modules = "archsearch.results, archsearch.reports.render, archsearch.searching.halving"
    statements = f"import {modules}\nassert 'scipy.stats' not in sys.modules"
    assert "scipy" not in heavy_after(statements)


def test_heavy_packages_would_be_detected() -> None:
    assert heavy_after("import numpy.linalg") == {"numpy"}


def test_packages_import_only_lower_layers() -> None:
    """The contracts are in pyproject.toml, [tool.importlinter]."""
    if importlib.util.find_spec("importlinter") is None:
        pytest.skip("import-linter is not installed")
    script = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", script, "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
