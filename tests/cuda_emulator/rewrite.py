"""The CUDA sources with the constructs that only nvcc understands rewritten for g++.

Lines keep their numbers, except those of a .cu file, which get one line more. The number of
constructs of each kind is asserted: a kernel in a form that no rule matches would otherwise not be
emulated as it is written.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cuda_ops.build import SOURCES

_PARENTHESES = r"(?:[^()]|\([^()]*\))*"


@dataclass(frozen=True)
class Rule:
    """A pattern, its replacement, and how often it occurs in all sources together."""

    pattern: str
    replacement: str | Callable[[re.Match[str]], str]
    count: int
    files: str = "*"


def _instruction(match: re.Match[str]) -> str:
    """The function of cuda.h for a PTX instruction: its dots become underscores."""
    return f"emulator::{match[1].replace('.', '_')}({match[2]}, {match[3]});"


RULES = (
    # A kernel: a function that first checks its launch bounds.
    Rule(
        rf"__global__ void __launch_bounds__\(({_PARENTHESES})\) (\w+)\(({_PARENTHESES})\) \{{",
        r"inline void \2(\3) { emulator::require_bounds(\1);",
        4,
    ),
    # A launch: grid, block, shared memory and stream, which is not used.
    Rule(
        r"(\w+_kernel<[^<>;]*>)\s*<<<(.*), [^,]*>>>\(([^;]*)\);",
        r"emulator::launch((const void*)(&\1), {\2}, [=] { \1(\3); });",
        4,
    ),
    Rule(
        r'asm\("([\w.]+) %0, %1;" : "=\w"\(([^;]*?)\) : "\w"\(([^;]*)\)\);',
        _instruction,
        4,
    ),
    Rule(
        r"extern __shared__ __align__\(16\) unsigned char shared\[\];",
        r"unsigned char* const shared = emulator::shared_memory();",
        2,
    ),
    # A setting, so that a small call is split into several launches.
    Rule(
        r"inline constexpr int64_t kMaxSlots = [^;]*;",
        r"#define kMaxSlots (emulator::settings.max_slots)",
        1,
    ),
    Rule(r"\A", '#include "cuda.h"\n', 8, "*.cu"),
    # The registration: of operators of its own, for tensors on the CPU.
    Rule(r"\(archsearch, CUDA, library\)", "(archsearch_emulator, CPU, library)", 1),
    Rule(r"other\.is_cuda\(\) && ", "", 1),
    Rule(r"const DeviceGuard guard\(x\.get_device_index\(\)\);", "", 2),
    Rule(r"aoti_torch_get_current_cuda_stream", "emulator_current_stream", 3, "register.cpp"),
)
"""What is rewritten, in this order."""


@dataclass(frozen=True)
class Fault:
    """A mistake to plant: `line` of a source file becomes `replacement`."""

    file: str
    line: str
    replacement: str


def source_texts() -> dict[Path, str]:
    """The sources of the CUDA backend by their path below csrc."""
    paths = [SOURCES / "arguments.h", SOURCES / "geometry.h", *sorted(SOURCES.glob("cuda/*"))]
    return {path.relative_to(SOURCES): path.read_text() for path in paths}


def rewritten(texts: dict[Path, str]) -> dict[Path, str]:
    """The texts with all rules applied; AssertionError if one matches more or less than it says."""
    texts = dict(texts)
    for rule in RULES:
        count = 0
        for path, text in texts.items():
            if path.match(rule.files):
                texts[path], matches = re.subn(rule.pattern, rule.replacement, text)
                count += matches
        assert count == rule.count, f"{count} times instead of {rule.count}: {rule.pattern}"
    return {_name_for_gcc(path): text for path, text in texts.items()}


def _name_for_gcc(path: Path) -> Path:
    """g++ takes a .cu file for a linker script."""
    return path.with_suffix(".cu.cpp") if path.suffix == ".cu" else path


def with_fault(texts: dict[Path, str], fault: Fault) -> dict[Path, str]:
    """The texts with one mistake; AssertionError if its line does not occur exactly once."""
    path = Path("cuda", fault.file)
    count = texts[path].count(fault.line)
    assert count == 1, f"{fault.file} has {count} times: {fault.line}"
    return texts | {path: texts[path].replace(fault.line, fault.replacement)}


def write_sources(texts: dict[Path, str], cache: Path) -> Path:
    """Writes the texts to a folder of `cache` that is named by their content; returns it."""
    digest = hashlib.sha256(repr(sorted((str(p), text) for p, text in texts.items())).encode())
    folder = cache / f"sources-{digest.hexdigest()[:16]}"
    if not folder.exists():
        part = Path(tempfile.mkdtemp(prefix="part-", dir=cache))
        (part / "cuda").mkdir()
        for path, text in texts.items():
            (part / path).write_text(text)
        try:
            part.rename(folder)
        except OSError:  # another worker of the run was faster
            shutil.rmtree(part)
    return folder
