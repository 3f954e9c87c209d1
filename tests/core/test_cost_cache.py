"""Counted costs are kept by content, survive damage, and are read without torch."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archsearch.core import cost_cache, counted_cost
from archsearch.core.cost_cache import VARIABLE, CostCache, cache_of
from archsearch.core.source_digest import source_digest
from archsearch.families import family_named
from tests.families.test_family_by_file import NET, forget, net, write


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own for each test, which forgets what it said and read."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "costs"))
    for cached in (cost_cache._open, counted_cost._say_once, source_digest):
        cached.cache_clear()
    yield tmp_path / "costs"
    cost_cache._open.cache_clear()


def again() -> None:
    """Forget what is in memory, as another process does not know it."""
    cost_cache._open.cache_clear()


def refuse_to_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted_cost, "_counted", lambda *_: pytest.fail("counted again"))


def test_a_cost_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = net(tmp_path)(8, 2)
    cost = variant.cost(32, num_classes=10)
    again()
    refuse_to_count(monkeypatch)
    assert variant.cost(32, num_classes=10) == cost


@pytest.mark.parametrize("change", ["number", "size", "shape", "classes", "content", "switch"])
def test_what_a_cost_depends_on_is_in_its_key(tmp_path: Path, change: str) -> None:
    text = NET.replace("solved", "bias: bool = True\n    switch_names = ('bias',)\n    solved", 1)
    family = net(tmp_path, text.replace("padding=1", "padding=1, bias=self.bias"))
    first = family(8, 2).cost(32, 32, 10)
    other: dict[str, Any] = {
        "number": lambda: family(8, 3).cost(32, 32, 10),
        "size": lambda: family(8, 2).cost(64, 64, 10),
        "shape": lambda: family(8, 2).cost(32, 64, 10),
        "classes": lambda: family(8, 2).cost(32, 32, 11),
        "content": lambda: net(tmp_path, text.replace("3, padding=1", "1"))(8, 2).cost(32, 32, 10),
        "switch": lambda: family(8, 2, bias=False).cost(32, 32, 10),
    }
    assert other[change]() != first


@pytest.mark.parametrize("damage", ["cut", "changed", "noise", "empty"])
def test_a_damaged_line_is_counted_again(tmp_path: Path, folder: Path, damage: str) -> None:
    variant = net(tmp_path)(8, 2)
    costs = [variant.cost(size) for size in (32, 64)]
    (file,) = folder.iterdir()
    content = file.read_bytes()
    file.write_bytes({
        "cut": content[:-9],
        "changed": content.replace(b'"params":', b'"params":9'),
        "noise": os.urandom(100) + content,
        "empty": b"",
    }[damage])  # fmt: skip
    again()
    assert [variant.cost(size) for size in (32, 64)] == costs
    again()
    assert [variant.cost(size) for size in (32, 64)] == costs
    assert len(cache_of(file.stem)._values) == 2


def test_processes_append_to_one_file(folder: Path) -> None:
    code = f"""
from pathlib import Path
from archsearch.core.cost_cache import CostCache
import sys
cache = CostCache(Path({str(folder / "many.jsonl")!r}))
for number in range(200):
    cache.add(f"{{sys.argv[1]}} {{number}}", {{"params": number}})
"""
    children = [subprocess.Popen([sys.executable, "-c", code, str(i)]) for i in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert len(CostCache(folder / "many.jsonl")._values) == 600


def test_the_size_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_cache, "MAX_BYTES", 200)
    monkeypatch.setattr(cost_cache, "MAX_FILES", 3)
    for name in range(6):
        cache = cache_of(str(name))
        for number in range(20):
            cache.add(str(number), {"params": number})
        os.utime(folder / f"{name}.jsonl", (name, name))
    assert sorted(file.stem for file in folder.iterdir()) == ["3", "4", "5"]
    assert all(file.stat().st_size < 300 for file in folder.iterdir())


@pytest.mark.parametrize("where", ["folder", "file"])
def test_an_unusable_folder_is_said_once(
    tmp_path: Path, folder: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    if where == "folder":
        folder.write_text("a file where the folder should be")
    else:
        name = f"Net-{source_digest(net(tmp_path))[:32]}"  # type: ignore[index]
        (folder / f"{name}-torch-{counted_cost._torch_version()}.jsonl").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        assert net(tmp_path)(8, 2).cost(32).params == net(tmp_path)(8, 2).cost(64).params
    (message,) = caplog.messages
    assert message.startswith(f"counted costs are not kept: {folder}")
    assert VARIABLE in message


@pytest.mark.parametrize("value", ["off", "OFF"])
def test_the_cache_can_be_off(tmp_path: Path, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    net(tmp_path)(8, 2).cost(32)
    assert not (tmp_path / "xdg").exists()
    monkeypatch.delenv(VARIABLE)
    again()
    net(tmp_path)(8, 2).cost(32)
    assert len(list((tmp_path / "xdg/archsearch/costs").iterdir())) == 1


def test_a_kept_plan_loads_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    code = """
import sys
sys.argv = "archsearch grid --family my_net.py:Net --budget 50K --set-axis width=16 --plan".split()
from archsearch.cli import main
try:
    main()
finally:
    print("torch" in sys.modules, "numpy" in sys.modules)
"""
    monkeypatch.chdir(tmp_path)
    outputs = [
        subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
        for _ in range(2)
    ]
    assert [output[-1] for output in outputs] == ["True True", "False False"]
    assert outputs[0][:-1] == outputs[1][:-1]


def test_the_source_of_a_package_holds_what_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_nets").mkdir()
    for name, text in {
        "own_nets/__init__.py": "",
        "own_nets/nets.py": NET + "\nfrom own_nets import blocks\n",
        "own_nets/blocks.py": "import own_layers\n",
        "own_layers.py": "SIZE = 1\n",
        "unrelated.py": "SIZE = 1\n",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    family = family_named("own_nets.nets:Net")
    digests = [source_digest(family)]
    for name in ("unrelated.py", "own_layers.py", "own_nets/blocks.py"):
        (tmp_path / name).write_text("SIZE = 2\nimport own_layers\n")
        source_digest.cache_clear()
        digests.append(source_digest(family))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    for name in [name for name in sys.modules if name.startswith(("own_nets", "own_layers"))]:
        monkeypatch.delitem(sys.modules, name)


def test_a_file_is_known_by_its_content_and_the_modules_that_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "beside.py").write_text("SIZE = 1\n")
    text = NET.replace("from torch import nn", "from torch import nn; import beside")
    digests = [source_digest(net(tmp_path, text))]
    forget(monkeypatch)
    source_digest.cache_clear()
    (tmp_path / "elsewhere").mkdir()
    assert source_digest(net(tmp_path / "elsewhere", text)) == digests[0]
    source_digest.cache_clear()
    (tmp_path / "beside.py").write_text("SIZE = 2\n")
    assert source_digest(net(tmp_path, text)) != digests[0]


def test_a_class_without_a_file_is_kept_in_memory_only(folder: Path) -> None:
    family = type("Own", (net(folder.parent),), {"__module__": "__main__"})
    assert source_digest(family) is None
    assert family(8, 2).cost(32).params > 0
    assert not folder.exists()
