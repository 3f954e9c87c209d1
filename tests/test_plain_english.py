"""Plain English: help, strings, docstrings, comments, names and documentation avoid banned words.

A banned word has a plain replacement in the field's terms: see `BANNED`.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from archsearch.cli.commands import app

ROOT = Path(__file__).parents[1]
CODE = ("archsearch", "internimage", "cuda_ops", "reports", "studies")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "studies/*.md",
             "studies/results/*.md",
             "reports/page.html")  # fmt: skip

BANNED = {
    r"foretold|foretells?": "predicted, predicts",
    r"cannot be told": "statistically tied, not significant",
    r"told|tells?|telling": "reported, reports, distinguishes",
    r"asks? for|asked for|asking for|asked": "requests, requested",
    r"go(es|ing)? on|went on": "resumes, continues",
    r"sittings?": "resumed run",
    r"anew": "again",
    r"beforehand": "before",
    r"mend(s|ed|ing)?": "fix",
    r"hears?|heard|hearing": "receives",
    r"nobody": "passive voice",
    r"alike": "equally, in the same way",
    r"signs? of life": "heartbeat",
    r"in words": "as text, as a message",
    r"wants?": "must be, needs",
    r"stands?": "is",
    r"in place of": "instead of",
    r"luck": "chance, noise",
    r"(artefact|behaviour|cancell|centre|colour|favour|grey|labell|neighbour)\w*": "American",
    r"(discret|general|initial|local|maxim|memor|minim|normal|optim|organ|parallel|quant|random|"
    r"recogn|regular|serial|special|summar|synchron|util|vector|visual)is(e|es|ed|er|ing|ation)|"
    r"analyse\w*|licence|whilst|amongst|learnt": "American",
}
"""Regular expression -> what to write instead; ``American`` is the spelling."""

EXCEPTIONS = {
    ("archsearch/storage/request.py", "asked"): "key of the first layout, read from earlier runs",
    ("archsearch/running/train_full.py", "asked"): "file name of earlier versions, still read",
    ("archsearch/benchmarks/overhead.py", "tell"): "a method of Optuna",
}
"""(file, word) -> why it is allowed."""

PATTERN = re.compile(rf"\b({'|'.join(BANNED)})\b".replace(" ", r"\s+"), re.IGNORECASE)


def banned_words(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, word) of the banned words and phrases of a text, in lower case."""
    for match in PATTERN.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, " ".join(match[0].lower().split())


def texts_of(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every string, docstring, comment and new name of a Python source."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=str(text)):
                yield node.lineno, text
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield node.lineno, name.replace("_", " ")
            case ast.Name(id=name, ctx=ast.Store()):
                yield node.lineno, name.replace("_", " ")
    if "#" in source:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def problems(path: Path, root: Path) -> list[tuple[str, int, str]]:
    """Return (file, line, word) of every banned word in a Python source or a document."""
    text, name = path.read_text(encoding="utf-8"), path.relative_to(root).as_posix()
    parts = texts_of(text) if path.suffix == ".py" else [(1, text)]
    return [
        (name, start + line - 1, word) for start, part in parts for line, word in banned_words(part)
    ]


def help_problems(tool: typer.Typer) -> list[tuple[str, str]]:
    """Return (command, word) of every banned word in the help of a tool and of its commands."""
    errors = []
    for command in ("", *getattr(typer.main.get_command(tool), "commands", ())):
        result = CliRunner().invoke(tool, [*filter(None, [command]), "--help"])
        assert result.exit_code == 0, result.output
        errors += [(command, word) for _, word in banned_words(result.output)]
    return errors


def sources() -> list[Path]:
    """Return the Python files of the packages; the links of archsearch to rooms are skipped."""
    files = (path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
    return [path for path in files if path == path.resolve()]


def test_help_is_in_plain_english() -> None:
    assert help_problems(app) == []


def test_the_code_is_in_plain_english() -> None:
    errors = [problem for path in sources() for problem in problems(path, ROOT)]
    assert not (new := [p for p in errors if (p[0], p[2]) not in EXCEPTIONS]), listed(new)
    assert {(file, word) for file, _, word in errors} == set(EXCEPTIONS), "remove unused exceptions"


def test_the_documentation_is_in_plain_english() -> None:
    paths = [path for pattern in DOCUMENTS for path in sorted(ROOT.glob(pattern))]
    assert len(paths) > 10
    assert not (errors := [p for path in paths for p in problems(path, ROOT)]), listed(errors)


def listed(errors: list[tuple[str, int, str]]) -> str:
    return "\n".join(f"{file}:{line}: {word}" for file, line, word in errors)


@pytest.mark.parametrize(
    "source",
    [
        '"""Return what cannot be\n    told."""',
        'raise ValueError(f"{name} is foretold")',
        "x = 1  # goes on",
        "def nobody(): ...",
        "def f(a_sign_of_life): ...",
        "asked = 1",
        '"normalise"',
    ],
)
def test_a_banned_word_in_code_is_reported(source: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    assert len(problems(path, tmp_path)) == 1


def test_a_banned_word_in_a_document_or_in_help_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# Title\n\nThe colour of a color goes\non.\n")
    assert problems(path, tmp_path) == [("README.md", 3, "colour"), ("README.md", 3, "goes on")]
    tool = typer.Typer(rich_markup_mode=None)
    for name, text in (("one", "Recommend an outstanding color."), ("two", "Mend the run.")):
        tool.command(name, help=text)(lambda: None)
    assert help_problems(tool) == [("", "mend"), ("two", "mend")]
