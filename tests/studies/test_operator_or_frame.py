"""The study of operator and frame: equal sizes, its options, and one run to its report."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archsearch import cli
from archsearch.api.options import Training
from archsearch.api.paper_request import PaperStudy
from archsearch.core.recipes import QUICK
from archsearch.families.internimage import ORIGIN, Variant
from archsearch.studies import operator_or_frame
from archsearch.studies.sizes import SCALES, Size

OPERATORS = [("dcnv3", 3), ("deformable-attention", 3), ("depthwise", 3), ("depthwise", 7)]


@pytest.mark.parametrize("size", ["small", "full"])
def test_only_the_operator_and_l3_differ_and_the_sizes_are_equal(size: Size) -> None:
    study, origin = operator_or_frame.study(recipe=QUICK, size=size), SCALES[size].origin
    assert study.seeds == (0, 1, 2, 3, 4)
    variants: list[Any] = [cell.variant for cell in study.cells]
    assert [(v.operator, v.kernel_size) for v in variants] == OPERATORS
    assert variants[0] == origin
    wanted = origin.cost().params
    for variant in variants:
        switches = {"operator": variant.operator, "kernel_size": variant.kernel_size}
        assert variant == replace(origin, l3=variant.l3, **switches)

        def miss(l3: int, variant: Any = variant) -> int:
            return abs(variant.with_solved(l3).cost().params - wanted)

        assert miss(variant.l3) <= min(miss(variant.l3 - 1), miss(variant.l3 + 1), 0.02 * wanted)
    assert [v.l3 for v in variants] == {"small": [4, 4, 8, 7], "full": [18, 18, 24, 23]}[size]


def test_an_origin_keeps_its_block_and_gets_the_operators() -> None:
    origin = Variant(16, 4, 1, 8, norm="post", layer_scale=1e-5, operator="dcnv3-sigmoid")
    study = operator_or_frame.study(recipe=QUICK, origin=origin)
    variants: list[Any] = [cell.variant for cell in study.cells]
    assert variants[0] == replace(origin, operator="dcnv3")
    assert {(v.norm, v.layer_scale, v.c1, v.l1) for v in variants} == {("post", 1e-5, 16, 1)}


def test_an_origin_with_few_blocks_has_no_equal_sizes() -> None:
    with pytest.raises(ValueError, match=r"origin 8-4-1-1: depthwise 3x3: .* 2\.3% under"):
        operator_or_frame.study(recipe=QUICK, origin=Variant(8, 4, 1, 1))


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run a command: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["archsearch", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capfd.readouterr()
        return int(end.value.code or 0), captured.out, captured.err  # type: ignore[arg-type]

    return call


def test_the_plan_shows_the_blocks_and_sizes(run: Any) -> None:
    _, out, _ = run("study", "operator-or-frame", "--plan", "--origin", "16-4-1-8")
    lines = out.splitlines()
    assert " l3 " in lines[1]
    assert " c1 " not in lines[1]
    assert lines[4].split()[2:4] == ["16", "1,174,296"]
    _, out, _ = run("study", "operator-or-frame", "--full", "--data", "imagefolder:.", "--plan",
                    "--format", "json")  # fmt: skip
    rows = json.loads(out)
    assert rows[0]["params"] == ORIGIN.cost().params
    assert [row["l3"] for row in rows] == [18, 18, 24, 23]


def test_five_seeds_are_its_default_and_only_its() -> None:
    def seeds(name: Any, of_study: Any = None, of_training: Any = 1) -> int:
        request = PaperStudy(name=name, seeds=of_study)
        return len(request.studies(Training(seeds=of_training))[0].seeds)

    assert [seeds("operator-or-frame"), seeds("ablation")] == [5, 1]
    assert [seeds("operator-or-frame", "1"), seeds("ablation", "3")] == [1, 3]
    assert seeds("ablation", None, 2) == 2


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["ablation", "--origin", "16-4-1-8"], ["ablation has no origin"]),
        (
            ["operator-or-frame", "--origin", "1-2", "--seeds", "x"],
            ["2 errors", "C1-C'-L1-L3", "x"],
        ),
    ],
)
def test_bad_options_get_a_clear_message(run: Any, arguments: list[str], parts: list[str]) -> None:
    code, out, err = run("study", *arguments)
    assert (code, out) == (2, "")
    assert all(part in err for part in parts)


@pytest.mark.slow
def test_it_is_trained_and_its_report_is_verified(run: Any, tmp_path: Path) -> None:
    toy = ("--set", "image_size=16", "--set", "batch_size=256", "--set", "data_fraction=0.2")
    code, _, err = run("study", "operator-or-frame", "--origin", "8-4-1-2", "--epochs", "1",
                       "--seeds", "2", *toy, "--runner", "inline", "--no-quote",
                       "--out", "frame")  # fmt: skip
    assert code == 0
    assert "8-4-1-5 kernel_size=7 operator=depthwise  seed 1: complete" in err
    table = (tmp_path / "frame/reports/operators.md").read_text()
    assert "The operator's part: without DCNv3 the validation accuracy changes by" in table
    assert (tmp_path / "frame/reports/operators.png").exists()
    assert run("report", "frame", "--verify")[0] == 0
