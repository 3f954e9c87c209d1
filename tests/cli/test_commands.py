"""The command line: JSON for scripts, one clear message for wrong input."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from archsearch.cli import commands
from archsearch.families.internimage import parse_variant
from archsearch.families.internimage_cost import count
from archsearch.heads import from_transformers

MODULES = (
    commands.launch, commands.evaluate, commands.compare, commands.power, commands.paper,
    commands.probe, commands.count, commands.runs, commands.deploy,
)  # fmt: skip
SHORT = ["--epochs", "1", "--set", "data_fraction=0.2"]
SMALL = ["--budget", "1M", "--c1", "16", "--group-channels", "8", "--l1", "2"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_list_of_commands_cuts_no_sentence(
    run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run_cli("--help")
    commands = out.partition("Commands:\n")[2].splitlines()
    assert (code, err) == (0, "")
    assert len(commands) == sum(len(module.COMMANDS) for module in MODULES)
    assert [line for line in commands if not line.endswith(".")] == []
    assert [line for line in commands if line.endswith("...")] == []


def test_every_option_has_a_sentence_of_help() -> None:
    group: Any = typer.main.get_command(commands.app)
    helps = {
        f"{name} {parameter.name}": parameter.help or ""
        for name, command in group.commands.items()
        for parameter in command.params
    }
    assert len(helps) > 100
    assert [k for k, text in helps.items() if not (text[:1].isupper() and text[-1:] == ".")] == []


def test_count_prints_the_published_figures(run_cli: Any) -> None:
    code, out, err = run_cli("count", "T", "--format", "json")
    row = json.loads(out)
    assert (code, err) == (0, "")
    assert row["params"] == 29_918_424
    assert (row["c1"], row["group_channels"], row["image_size"]) == (64, 16, 224)
    assert (row["depths"], row["groups"]) == ([4, 4, 18, 4], [4, 8, 16, 32])
    assert row["widths"] == [64, 128, 256, 512]


@pytest.mark.parametrize(
    "arguments",
    [
        ["64-16-4-18"],
        ["--c1", "64", "--group-channels", "16", "--l1", "4", "--l3", "18"],
    ],
)
def test_count_takes_numbers_and_a_kernel(run_cli: Any, arguments: list[str]) -> None:
    _, out, _ = run_cli("count", *arguments, "--kernel", "5", "--format", "json")
    assert round(json.loads(out)["params"] / 1e6, 2) == 36.99  # Table D


def test_count_of_h_and_of_b_at_800_pixels(run_cli: Any) -> None:
    _, out, _ = run_cli("count", "H", "--format", "json")
    assert json.loads(out)["params"] == 1_089_636_760
    _, out, _ = run_cli("count", "B", "--image-size", "800", "--format", "json")
    assert round(json.loads(out)["macs"] / 1e9) == 206


def test_count_takes_height_x_width(run_cli: Any) -> None:
    """As the closed form, the built module and fvcore count it."""
    size = ["--image-size", "96x160"]
    code, out, err = run_cli("count", "16-8-1-2", *size, "--format", "json", "--verify")
    row = json.loads(out)
    assert (code, row["image_size"]) == (0, [96, 160])
    assert "closed form = built module = fvcore" in err
    expected = count(parse_variant("16-8-1-2").config(), 96, 160)
    assert (row["macs"], row["activations"]) == (expected.macs, expected.activations)
    assert "96 × 160" in run_cli("count", "16-8-1-2", *size)[1]


def test_count_of_a_detector_has_the_printed_figures(run_cli: Any) -> None:
    """Table 3: InternImage-B 115M and 501G, ConvNeXt-B 108M and 486G, at 1280 x 800."""
    options = ["--head", "mask-rcnn", "--image-size", "1280x800"]
    for family, params, flops in (("internimage", 115, 501), ("convnext", 108, 486)):
        command = ["count", "B", "--family", family, *options]
        _, out, _ = run_cli(*command, "--convention", "mmcv", "--format", "json")
        row = json.loads(out)
        assert (round(row["params"] / 1e6), round(row["mmcv"] / 1e9)) == (params, flops)
        assert (row["head"], row["num_classes"]) == ("mask-rcnn", 80)
        assert row["image_size"] == [1280, 800]
        assert "macs" not in row
    _, out, _ = run_cli(*command, "--format", "json")
    assert "mmcv" not in json.loads(out)
    assert json.loads(out)["macs"] < row["mmcv"]


def test_count_verifies_a_segmenter_with_other_classes_and_an_own_block(run_cli: Any) -> None:
    command = ["count", "16-8-1-2", "--kernel", "5", "--head", "upernet", "--classes", "7"]
    code, out, err = run_cli(*command, "--image-size", "70x41", "--verify")
    assert (code, "closed form = built module\n" in err) == (0, True)
    assert "70 × 41" in out


def test_a_head_of_transformers_is_not_verified_without_it(
    run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_transformers, "find_spec", lambda _: None)
    code, _, err = run_cli("count", "T", "--head", "dino", "--verify")
    assert (code, "pip install 'archsearch[transformers]'" in err) == (2, True)


def test_doctor_names_versions_backends_and_the_self_check(run_cli: Any) -> None:
    code, out, err = run_cli("doctor")
    assert (code, err) == (0, "")
    first_words = [line.split()[0].rstrip(":") for line in out.splitlines()]
    for word in ("python", "torch", "compiler", "nvcc", "cache", "loops", "cpu", "cuda"):
        assert word in first_words
    assert "self-check of the CUDA kernels: once (ARCHSEARCH_CUDA_CHECK)" in out


@pytest.mark.parametrize("arguments", [["doctor"], ["grid", *SMALL, "--data", "digits", *SHORT]])
def test_a_wrong_self_check_mode_is_one_message_and_creates_nothing(
    run_cli: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("ARCHSEARCH_CUDA_CHECK", "sometimes")
    code, out, err = run_cli(*arguments)
    assert (code, out) == (2, "")
    assert "ARCHSEARCH_CUDA_CHECK is 'sometimes'; set it to once, always or off" in err
    assert not list(Path().iterdir())


def test_grid_plan_is_thirty_cells_each_with_a_fate(run_cli: Any) -> None:
    for preset in ("main", "supplement"):
        code, out, err = run_cli("grid", "--preset", preset, "--plan", "--format", "json")
        rows = json.loads(out)
        assert (code, err) == (0, "")
        assert len(rows) == 30
        assert {row["status"] for row in rows} <= {"exact", "repaired", "infeasible"}
        assert all(row["reason"] for row in rows if row["status"] != "exact")
        origin = [r for r in rows if (r["c1"], r["group_channels"], r["l1"]) == (64, 16, 4)]
        assert {row["l3"] for row in origin} == {18}


def test_scale_plan_climbs_from_the_origin(run_cli: Any) -> None:
    code, out, _ = run_cli(
        "scale", "--alpha", "1.09", "--beta", "1.36", "--plan", "--format", "json"
    )  # fmt: skip
    rows = json.loads(out)
    assert code == 0
    assert [(r["c1"], r["l3"]) for r in rows] == [(64, 18), (80, 21), (112, 24)]


BAD = {
    "banana": ["grid", "--budget", "banana"],
    "0.5": ["scale", "--alpha", "0.5", "--beta", "1.36"],
    "not a multiple": ["grid", "--invalid", "error"],
    "nowhere": ["grid", "--data", "imagefolder:nowhere"],
    "no recipe": ["grid", "--recipe", "slow"],
    "did you mean": ["grid", "--set", "epoch=3"],
    "seeds must be": ["grid", "--seeds", "none"],
    "workers must be": ["grid", "--workers", "0"],
    "fp16 needs a GPU": ["grid", *SMALL, "--device", "cpu", "--set", "precision=fp16"],
    "gpus_per_trial needs the runner ray": ["grid", "--gpus-per-trial", "0.5"],
    "not both": ["count", "T", "--c1", "64"],
    "missing": ["count", "--c1", "64"],
    "rule 2": ["count", "48-32-1-2"],
    "--head: wanted a head of mask-rcnn, cascade-mask-rcnn, dino, upernet, mask2former, got 'x'": [
        "count",
        "T",
        "--head",
        "x",
    ],
    "--convention: wanted macs or mmcv, got 'flops'": ["count", "T", "--convention", "flops"],
    "--two-backbones counts detectors and segmenters: add --head": [
        "count",
        "T",
        "--two-backbones",
    ],
    "ViT gives no four maps": ["count", "S", "--family", "vit", "--head", "upernet"],
    "no study": ["report", "elsewhere"],
    "no run": ["report"],
    "is not a file": ["run", "absent.py"],
    "no legal variant": ["search", "--budget", "1M"],
    "wanted one of T, S, B": ["train", "Q"],
    "unknown metric": ["search", "--objectives", "beauty"],
    "give a target": ["export", "somewhere"],
    "gpus 2 needs the device cuda": ["train", "T", "--gpus", "2", "--device", "cpu"],
    "only if over is four": ["search", "--over", "twelve", "--c1", "16"],
    "val_fraction above 0": ["grid", "--set", "val_fraction=0"],
}


@pytest.mark.parametrize("message", BAD)
def test_wrong_input_gets_one_clear_message_and_trains_nothing(
    run_cli: Any, message: str, tmp_path: Path
) -> None:
    code, out, err = run_cli(*BAD[message])
    assert code == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.json"))


def test_all_errors_are_reported_together(run_cli: Any) -> None:
    _, _, err = run_cli(
        "scale", "--budget", "banana", "--seeds", "x", "--alpha", "0.5", "--beta", "1"
    )
    assert err.startswith("archsearch: 3 errors:")
    assert all(word in err for word in ("banana", "'x'", "0.5"))


def test_a_folder_that_cannot_be_written_fails_before_training(
    run_cli: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run_cli("grid", *SMALL, "--out", "file/run")
    assert code == 2
    assert "cannot write" in err


def test_grid_trains_writes_its_report_and_resumes(run_cli: Any, tmp_path: Path) -> None:
    """One small cell from training to report; repeating the command trains nothing."""
    command = ["grid", *SMALL, *SHORT, "--runner", "inline", "--out", "one"]
    code, out, err = run_cli(*command)
    assert (code, out) == (0, "")
    assert "report.html" in err
    for name in ("report.html", "heatmap.png", "heatmap.svg", "results.csv", "results.md"):
        assert (tmp_path / "one/reports" / name).stat().st_size > 0
    records = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("record.json")}
    assert len(records) == 1
    assert run_cli(*command)[0] == 0
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("record.json")} == records

    assert run_cli("report", "one", "--verify")[0] == 0
    table = tmp_path / "one/reports/results.csv"
    original = table.read_text()
    table.write_text(original.replace("complete,16,8,2,4,1", "complete,16,8,2,4,2"))
    assert table.read_text() != original
    assert run_cli("report", "one", "--verify")[0] == 1

    code, out, _ = run_cli("status", "one", "--format", "json")
    assert [row["state"] for row in json.loads(out)] == ["complete"]

    code, _, err = run_cli(*command, "--set", "lr=0.5")
    assert code == 2
    assert "recipe.lr" in err


def test_a_second_ctrl_c_ends_a_training_immediately(
    run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from archsearch.running import train_full

    def ignores_stop(*_: object, **__: object) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr(train_full, "train_full", ignores_stop)
    code, _, err = run_cli("train", "16-8-1-1", "--device", "cpu")
    assert code == 130
    assert "ended immediately by Ctrl-C; the same command resumes" in err


def test_a_network_is_trained_in_full_to_weights_that_load(run_cli: Any, tmp_path: Path) -> None:
    code, _, err = run_cli("train", "16-8-1-1", *SHORT, "--device", "cpu", "--out", "full")
    assert code == 0
    assert "epoch 1/1" in err
    from internimage import load_weights

    model = load_weights(tmp_path / "full/weights.safetensors")
    assert model.config.channels == (16, 32, 64, 128)
    code, _, err = run_cli("train", "16-8-1-1", "--epochs", "2", "--out", "full")
    assert code == 2
    assert "recipe.epochs was 1, now 2" in err


def test_a_study_runs_from_a_file(
    run_cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_study.py").write_text(
        "from archsearch.core.budget import Budget\n"
        "from archsearch.core.recipes import resolve\n"
        "from archsearch.studies import grid\n"
        "def study():\n"
        "    return grid.study(recipe=resolve('quick'), budget=Budget.parse('1M'),\n"
        "                      c1=(16,), group_channels=(8,), l1=(1, 2))\n"
    )
    code, out, _ = run_cli("run", "own_study.py", "--plan", "--format", "json")
    assert code == 0
    assert [row["l1"] for row in json.loads(out)] == [1, 2]
    (tmp_path / "bare.py").write_text(
        "from dataclasses import replace\n"
        "from own_study import study as small_grid\n"
        "study = replace(small_grid(), budget=None)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    code, out, err = run_cli("run", "bare.py", "--plan")
    assert (code, err) == (0, "")
    assert "2 cells: 2 exact; 1" in out
    (tmp_path / "empty.py").write_text("")
    code, _, err = run_cli("run", "empty.py")
    assert code == 2
    assert "must export `study`" in err
