"""The contract of a family: the shipped families and one by file pass, planted faults do not.

A new family is one line of `FAMILIES`.
"""

import subprocess
import unittest
from pathlib import Path

import pytest

from archsearch.testing import Check, ContractBroken, contract_of, family_contract, of_runs
from archsearch.testing.__main__ import main
from archsearch.testing.contract import CHECKS, Contract
from archsearch.testing.subject import Subject
from tests.families import toy_family
from tests.testing.families import FAULTS, UNSAVED_STATE, write

FAMILIES = {
    "InternImage": "internimage",
    "ConvNeXt": "convnext",
    "ViT": "vit",
    "toy": "tests.families.toy_family:Net",
}

QUICK_CHECKS = [
    pytest.param(check, id=f"{name}-{check.name}")
    for name, family in FAMILIES.items()
    for check in contract_of(family)
    if not check.trains
]


@pytest.mark.parametrize("check", QUICK_CHECKS)
def test_every_family_keeps_the_contract_without_training(check: Check) -> None:
    check()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_family_keeps_the_whole_contract(family: str) -> None:
    outcomes = {outcome.name: outcome.status for outcome in family_contract(family)}
    assert outcomes == dict.fromkeys(CHECKS, "pass") | {"grow": outcomes["grow"]}


def test_a_family_by_file_keeps_the_whole_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then its run is damaged, and the checks of runs fail."""
    contract = Contract(Subject(write(tmp_path)))
    outcomes = [contract.outcome(name) for name in CHECKS]
    assert [(o.name, o.text) for o in outcomes if o.status != "pass"] == []
    subject = contract.subject
    page = of_runs.killed(subject) / "reports/report.html"
    text = page.read_text()
    page.write_text(text.replace("(16, 1)", "(16, 2)"))
    with pytest.raises(AssertionError, match=r"report.html: it shows .*\(16, 2\)"):
        of_runs.check_reported(subject)
    check_damaged_exports(subject, monkeypatch)
    check_a_training_repeated(subject)
    check_a_process_that_was_not_killed(subject, monkeypatch)
    folder = subject.folder
    del contract, subject
    assert not folder.exists()


def check_damaged_exports(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = of_runs._weights(of_runs.StudyFolder(of_runs.whole(subject)).trial(ids(subject)[0]))
    monkeypatch.setattr(of_runs, "_weights", lambda _: weights)  # of the other seed
    with pytest.raises(AssertionError, match="exported weights give other results: test_"):
        of_runs.check_exported_weights(subject)
    (subject.folder / "copy/trials" / ids(subject)[0] / "record.json").unlink()
    monkeypatch.setattr(of_runs, "publish", lambda *_: 2)
    with pytest.raises(AssertionError, match="the copy has"):
        of_runs.check_exported_records(subject)


def ids(subject: Subject) -> tuple[str, ...]:
    return of_runs.StudyFolder(of_runs.whole(subject)).ids()


def check_a_training_repeated(subject: Subject) -> None:
    whole, killed = (
        of_runs.StudyFolder(folder(subject)).trial(ids(subject)[1])
        for folder in (of_runs.whole, of_runs.killed)
    )
    killed.append_event(killed.events()[0])
    with pytest.raises(AssertionError, match=r"the epochs \[1, 2, 1\] were trained"):
        of_runs._check_same_training(whole, killed)


def check_a_process_that_was_not_killed(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    for code, message in (
        (2, "was not killed at step 28, but ended with exit code 2: no such option"),
        (-9, r"after the kill the trainings are \('complete', 'complete'\)"),
    ):
        done = subprocess.CompletedProcess("", code, "", "no such option")
        monkeypatch.setattr(of_runs, "_python", lambda *_, done=done: done)
        with pytest.raises(AssertionError, match=message):
            of_runs.check_resumed(subject)


@pytest.mark.slow
def test_state_that_no_checkpoint_holds_breaks_resuming(tmp_path: Path) -> None:
    with pytest.raises(ContractBroken, match=r"(?s)resume: .*differs from a whole one .*without a"):
        family_contract(write(tmp_path, *UNSAVED_STATE))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_check(fault: str, tmp_path: Path) -> None:
    old, new, name, message = FAULTS[fault]
    (check,) = (c for c in contract_of(write(tmp_path, old, new)) if c.name == name)
    outcome = check.outcome()
    assert outcome.status == "fail", outcome.text
    with pytest.raises(Exception, match=message) as raised:
        check()
    assert raised.value is outcome.error


def test_one_error_names_every_failed_check(tmp_path: Path) -> None:
    old, new, *_ = FAULTS["the classes of ImageNet"]
    with pytest.raises(ContractBroken) as raised:
        family_contract(write(tmp_path, old, new))
    head, *lines = str(raised.value).splitlines()
    assert head == "Net fails 2 of 13 checks of the contract of a family:"
    assert [line.split()[1] for line in lines] == ["count:", "build:"]
    assert [o.name for o in raised.value.outcomes if o.status == "skip"] == [
        "gradients", "train", "resume", "report", "export-records", "export-weights",
    ]  # fmt: skip


def test_what_a_family_does_not_have_is_skipped() -> None:
    checks = {check.name: check for check in contract_of(toy_family.Net, numbers="8-1")}
    with pytest.raises(unittest.SkipTest, match=r"Net has no grow\(\)"):
        checks["grow"]()
    assert checks["grow"].__name__ == "grow"


def test_a_network_is_chosen_by_its_numbers_or_its_budget() -> None:
    assert Subject("internimage").variant.name == "16-16-1-1"
    assert Subject("convnext").variant.name == "8-1-1"
    assert Subject(toy_family.Net).variant == toy_family.Net(16, 1)
    assert Subject(toy_family.Net, "8-3").variant == toy_family.Net(8, 3)
    assert Subject(toy_family.Net, toy_family.Net(8, 3)).variant == toy_family.Net(8, 3)
    assert Subject(toy_family.Net, "16-1", budget="50K").variant == toy_family.Net(16, 14)
    assert Subject(toy_family.Net, "8-3").options["values"] == {"width": (8,)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["8"], "wanted the numbers width-depth, got '8'"),
        (["7-1"], "not a variant: width must be even"),
        (["--budget", "x"], "a budget is a positive number"),
        (["--image-size", "0"], "image_size must be a side in pixels, got 0"),
    ],
)
def test_wrong_options_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([write(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(ValueError, match="numbers must be of Variant, got a Net"):
        contract_of("internimage", toy_family.Net(8, 1))


def test_the_command_prints_a_line_per_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, *_ = FAULTS["no parameter"]
    family = write(tmp_path, old, new)
    assert main([family]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    status = {line.split()[1]: line.split()[0] for line in lines}
    assert list(status) == list(CHECKS)
    assert {status["count"], status["gradients"], status["train"]} == {"pass", "fail"}
    assert last.startswith(f"{family}: 2 of 13 checks failed, 4 skipped, in ")
