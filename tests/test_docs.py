"""The documentation's links and paths exist, and its programs run as they are printed."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP = ("archsearch", "cuda_ops", "docs", "internimage", "reports", "studies", "tests")
RUN = "studies/results/grid-2.2M-cifar10"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_exist(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    paths = re.findall(rf"`((?:{'|'.join(TOP)})/[\w/.-]*)", text)
    missing += [path for path in paths if not (ROOT / path).exists()]
    missing += [
        f"{path}: {name}"
        for path, name in re.findall(r"`([\w/]+\.py): ([\w.]+)`", text)
        if not re.search(rf"(?:def|class) {name.rpartition('.')[2]}\b", (ROOT / path).read_text())
    ]
    assert not missing


def programs(page: str) -> dict[str, str]:
    """Return the programs of a page whose first line is a comment with their file's name."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    return {block.split()[1]: block for block in blocks if block.startswith("# ")}


def run(folder: Path, page: str, *command: str) -> str:
    for name, program in programs(page).items():
        (folder / name).write_text(program)
    result = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_report_of_a_user_has_its_card(tmp_path: Path) -> None:
    page = tmp_path / run(tmp_path, "own-report.md", "my_report.py", str(ROOT / RUN)).strip()
    assert "Networks by cost" in page.read_text()
    rows = (page.parent / "by-cost.csv").read_text().splitlines()
    assert rows[1] == '"(24, 8, 2, 4)",298446336'


@pytest.mark.slow
def test_the_network_of_a_user_is_trained(tmp_path: Path) -> None:
    output = run(tmp_path, "own-family.md", "widths.py").splitlines()
    # 32 * 49 for the stem, 5 * 32 * (32 * 9 + 1) for the blocks, 1000 * 33 for the head
    assert output[0] == str(32 * 49 + 5 * 32 * 289 + 33_000)
    assert "(8, " in "\n".join(output)
    assert (tmp_path / "runs/grid-Net-20K-digits/reports/report.html").exists()


def test_the_commands_for_the_network_of_a_user_work(tmp_path: Path) -> None:
    grid, *_ = re.findall(
        r"^archsearch (.*--set-axis.*)$", (ROOT / "docs/own-family.md").read_text(), re.MULTILINE
    )
    command = [*grid.split(), "--plan", "--format", "json"]
    main = "from archsearch.cli import main; main()"
    rows = json.loads(run(tmp_path, "own-family.md", "-c", main, *command))
    assert [(row["width"], row["depth"], row["status"]) for row in rows] == [
        (32, 29, "exact"), (48, 12, "exact"), (64, 6, "exact")
    ]  # fmt: skip


def test_an_exported_network_classifies_with_onnxruntime_and_pillow_only(
    tmp_path: Path, run_cli: Any
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    from archsearch.deployment.predict import predict
    from archsearch.deployment.trained import open_classifier
    from archsearch.families.internimage import Variant
    from archsearch.running.train_full import WEIGHTS, train_full
    from archsearch.training.data import load
    from tests.training.trainings import SHORT

    train_full(Variant(16, 8, 1, 1), SHORT, "digits", tmp_path)
    weights, paths = tmp_path / WEIGHTS, [tmp_path / f"{i}.png" for i in range(3)]
    assert run_cli("export", str(weights), "--onnx", str(tmp_path / "m.onnx"))[0] == 0
    for pixels, path in zip(load("digits").test.pixels, paths, strict=False):
        Image.fromarray(pixels[0]).save(path)
    predictions = predict(open_classifier(str(weights)), paths)
    for path, prediction in zip(paths, predictions, strict=True):
        output = run(tmp_path, "production.md", "classify.py", path.name)
        assert output.strip() == prediction.class_name
    program = programs("production.md")["classify.py"]
    imported = set(re.findall(r"^(?:import|from) (\w+)", program, re.MULTILINE))
    assert imported == {"json", "sys", "onnxruntime", "PIL"}
