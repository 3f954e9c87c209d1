"""The commands on a family of networks other than InternImage."""

import json
from pathlib import Path
from typing import Any

import pytest

import archsearch as a
from archsearch.cli.commands import with_repeated_axes
from archsearch.storage.resume import resume_command
from tests.families.test_family_by_file import NET, write
from tests.families.toy_family import Net

SMALL = ("--epochs", "1", "--set", "data_fraction=0.2", "--device", "cpu")
GROW = """
    def grow(self, alpha, beta, phi, rounding):
        return self.with_numbers(round(self.width * beta**phi), round(self.depth * alpha**phi)), ""
"""
TOY = "tests.families.toy_family:Net"


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    write(tmp_path, NET + GROW)
    monkeypatch.chdir(tmp_path)
    return "my_net.py:Net"


def test_several_axes_follow_one_option() -> None:
    arguments = ["grid", "--set-axis", "a=1,2", "b=3", "--set-axis=c=4", "d=5", "--seeds", "2"]
    assert " ".join(with_repeated_axes(arguments)) == (
        "grid --set-axis a=1,2 --set-axis b=3 --set-axis=c=4 --set-axis d=5 --seeds 2"
    )
    assert with_repeated_axes(["grid", "b=3"]) == ["grid", "b=3"]


def test_a_plan_prints_the_numbers_of_the_family(run_cli: Any, family: str) -> None:
    options = ("--budget", "50K", "--set-axis", "width=16,24", "--plan", "--format", "json")
    code, out, _ = run_cli("grid", "--family", family, *options)
    assert code == 0
    rows = json.loads(out)
    assert [(row["width"], row["depth"]) for row in rows] == [(16, 14), (24, 5)]
    assert set(rows[0]) == {"width", "depth", "params", "macs", "status", "reason",
                            "requested_width"}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("grid", "Net has no default values of width: give each as in --set-axis width=32,48"),
        ("search", "Net has no default values of width"),
        ("grid --c1 8,16 --preset main --set-axis width=8",
         "--c1, --preset are options of InternImage, and the family is Net"),
        ("grid --set-axis width=8 --set-axis width=16", "set-axis gives values of width twice"),
        ("grid --set-axis width", "set-axis must be NAME=V,V, got 'width'"),
        ("grid --set-axis depth=2 width=8", "Net has no number depth; known: width"),
        ("grid --set-axis width=8 --switch norm=pre", "Net has no switch norm; it has none"),
        ("scale --alpha 1.1 --beta 1.2", "a ladder of Net needs an origin"),
        ("scale --origin 16-2", "alpha is missing"),
        ("scale --origin 16 --alpha 1.1 --beta 1.2", "wanted the numbers width-depth, got '16'"),
        ("search --over twelve --set-axis width=8", "--over is an option of InternImage"),
        ("count --c1 8", "count needs a network of Net"),
        ("count 8-2 --norm pre", "--norm is an option of InternImage"),
        ("count T", "wanted the numbers width-depth, got 'T'"),
        ("train T", "wanted the numbers width-depth, got 'T'"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_in_words(
    run_cli: Any, family: str, tmp_path: Path, command: str, message: str
) -> None:
    code, _, err = run_cli(*command.split(), "--family", family)
    assert code == 2
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["my_net.py"]


def test_a_network_is_counted(run_cli: Any, family: str) -> None:
    code, out, err = run_cli("count", "16-3", "--family", family, "--image-size", "32",
                             "--classes", "10", "--format", "json", "--verify")  # fmt: skip
    cost = Net(16, 3).cost(32, num_classes=10)
    assert (code, json.loads(out)["params"], json.loads(out)["macs"]) == (0, cost.params, cost.macs)
    assert "closed form = built module" in err
    assert a.count(Net, "16-3", image_size=32, num_classes=10) == cost
    assert a.count("16-3", family=TOY, image_size=32, num_classes=10) == cost
    assert a.count(Net(16, 3), image_size=32, num_classes=10) == cost
    with pytest.raises(ValueError, match="give a network of Net"):
        a.count(Net)
    with pytest.raises(ValueError, match="it has its own"):
        a.count(Net(16, 3), family=TOY)


def test_a_switch_may_have_no_value() -> None:
    assert a.count("8-1-1", family="convnext", switches=["layer_scale=none"]).params < (
        a.count("8-1-1", family="convnext").params
    )


def test_a_ladder_and_a_search_of_a_family_are_planned(run_cli: Any, family: str) -> None:
    options = ("--family", family, "--plan", "--format", "json", "--budget", "50K")
    ladder = run_cli("scale", *options, "--origin", "8-2", "--alpha", "1.4", "--beta", "1.4")
    assert [(row["width"], row["depth"]) for row in json.loads(ladder[1])][:2] == [(8, 2), (11, 3)]
    assert json.loads(run_cli("search", *options, "--set-axis", "width=16,24")[1]) == []


def test_a_grid_in_python_trains_resumes_and_reports_elsewhere(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Any
) -> None:
    options: dict[str, Any] = {
        "budget": "20K", "values": {"width": [8, 16]}, "epochs": 1, "set": {"data_fraction": 0.2},
        "runner": "inline", "device": "cpu", "quote": False,
    }  # fmt: skip
    run = a.grid(family, **options)
    assert run.folder.name == "grid-Net-20K-digits"
    assert list(run.df["state"]) == ["complete", "complete"]
    again = a.grid(family=family, **options)
    assert again.df.equals(run.df)
    run.folder.rename(tmp_path / "moved")
    (tmp_path / "my_net.py").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    page = (tmp_path / "moved/reports/report.html").read_text()
    for word in ("InternImage", "the paper", "The paper", "C₁", "Table B", "L₃"):
        assert word not in page
    for verify in ([], ["--verify"]):  # the page names the folder
        assert run_cli("report", str(tmp_path / "moved"), *verify)[0] == 0
    (copy,) = (tmp_path / "moved/families").iterdir()
    command = resume_command(["archsearch", "grid", "--family", family], tmp_path / "moved")
    assert command == f"archsearch grid --family {copy}:Net --out {tmp_path / 'moved'}"
    resumed = a.grid(f"{copy}:Net", **options, out=tmp_path / "moved")
    assert list(resumed.df["val_accuracy_mean"]) == list(run.df["val_accuracy_mean"])
    model = a.load(tmp_path / "moved").best.model()
    best = a.load(tmp_path / "moved").best.variant
    assert model.state_dict().keys() == best.build(10).state_dict().keys()


def test_a_network_in_full_is_trained_to_weights(family: str, tmp_path: Path, run_cli: Any) -> None:
    command = ("train", "8-2", "--family", family, *SMALL, "--out", "full")
    assert run_cli(*command)[0] == 0
    (tmp_path / "my_net.py").write_text(NET + "\n# changed")
    code, _, err = run_cli(*command)
    assert code == 2
    assert "network.source was" in err
    write(tmp_path, NET.replace("4, stride=4", "2, stride=2"), "other.py")
    weights = "other.py:Net"
    trained = a.train(weights, "8-2", epochs=1, set={"data_fraction": 0.2}, device="cpu", out="two")
    model = trained.model()
    assert not model.training
    assert model[0].kernel_size == (2, 2)
