"""The contract of a family: named checks, and their outcomes."""

import time
import unittest
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from archsearch.core.family import Family
from archsearch.families import family_of
from archsearch.testing import of_networks, of_numbers, of_runs
from archsearch.testing.subject import Subject

Run = Callable[[Subject], None]
"""What a check does: it raises an error if the family does not keep the contract."""

CHECKS: Mapping[str, tuple[Run, tuple[str, ...]]] = {
    "numbers": (of_numbers.check_numbers, ()),
    "refuse": (of_numbers.check_refused, ()),
    "store": (of_numbers.check_stored, ("numbers",)),
    "solve": (of_numbers.check_solved, ("numbers",)),
    "count": (of_numbers.check_counted, ("numbers",)),
    "grow": (of_numbers.check_grown, ("numbers",)),
    "build": (of_networks.check_built, ("numbers",)),
    "gradients": (of_networks.check_gradients, ("build",)),
    "train": (of_runs.check_trained, ("solve", "build")),
    "resume": (of_runs.check_resumed, ("train",)),
    "report": (of_runs.check_reported, ("resume",)),
    "export-records": (of_runs.check_exported_records, ("resume",)),
    "export-weights": (of_runs.check_exported_weights, ("resume",)),
}
"""The checks by name, in order, each with those that must pass before it."""


class ContractBroken(AssertionError):
    """At least one check failed; the message has every one and its reason."""

    def __init__(self, family: type[Family], outcomes: tuple["Outcome", ...]) -> None:
        self.outcomes = outcomes
        failed = [outcome for outcome in outcomes if outcome.status == "fail"]
        lines = "".join(f"\n  - {outcome.name}: {outcome.text}" for outcome in failed)
        super().__init__(
            f"{family.__name__} fails {len(failed)} of {len(outcomes)} checks of the contract of a "
            f"family:{lines}"
        )


@dataclass(frozen=True)
class Outcome:
    """What one check found; ``text`` is what holds, or why it failed or was skipped."""

    name: str
    status: Literal["pass", "fail", "skip"]
    text: str
    seconds: float
    error: Exception | None = None


class Contract:
    """The outcomes of the checks of one family; each check runs once."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._outcomes: dict[str, Outcome] = {}

    def outcome(self, name: str) -> Outcome:
        """The outcome of a check, after those that it needs."""
        if name not in self._outcomes:
            failed = [n for n in CHECKS[name][1] if self.outcome(n).status != "pass"]
            self._outcomes[name] = (
                Outcome(name, "skip", f"it needs {', '.join(failed)}", 0.0)
                if failed
                else self._run(name)
            )
        return self._outcomes[name]

    def _run(self, name: str) -> Outcome:
        began, check = time.monotonic(), CHECKS[name][0]
        ended = partial(_seconds_since, began)
        try:
            check(self.subject)
        except unittest.SkipTest as reason:
            return Outcome(name, "skip", str(reason), ended())
        except Exception as error:  # noqa: BLE001  any exception of a user's family is an outcome
            return Outcome(name, "fail", _text(error), ended(), error)
        holds, _, _ = (check.__doc__ or "").partition("\n\n")
        return Outcome(name, "pass", " ".join(holds.split()), ended())


def _seconds_since(began: float) -> float:
    return time.monotonic() - began


def _text(error: Exception) -> str:
    is_message = isinstance(error, AssertionError | ValueError) and str(error)
    return str(error) if is_message else f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class Check:
    """One check of a family; calling it runs it, as pytest does.

    Raises:
        AssertionError: the family does not keep this part of the contract; or any error of its own.
        unittest.SkipTest: a check that this one needs failed, or the family has no such part.
    """

    name: str
    outcome: Callable[[], Outcome]

    @property
    def __name__(self) -> str:
        """The name that pytest gives the test of this check."""
        return self.name

    @property
    def trains(self) -> bool:
        """Whether the check trains networks; the first of them takes most of the time."""
        return CHECKS[self.name][0].__module__ == of_runs.__name__

    def __call__(self) -> None:
        outcome = self.outcome()
        if outcome.error is not None:
            raise outcome.error
        if outcome.status == "skip":
            raise unittest.SkipTest(outcome.text)


def contract_of(
    family: str | type[Family],
    numbers: str | Family | None = None,
    *,
    budget: str | None = None,
    image_size: int = 32,
) -> list[Check]:
    """The checks of a family in order; a check runs those that it needs.

    ``numbers`` name the network that is checked (``32-5``), by default a small one; ``budget``
    replaces its solved number by the one that meets this size. It is trained at ``image_size``
    pixels.

    Raises:
        ValueError: it is no family, or the numbers, the budget or the size are wrong.
    """
    contract = Contract(Subject(family, numbers, budget, image_size))
    return [Check(name, partial(contract.outcome, name)) for name in CHECKS]


def family_contract(
    family: str | type[Family],
    numbers: str | Family | None = None,
    *,
    budget: str | None = None,
    image_size: int = 32,
) -> tuple[Outcome, ...]:
    """The outcomes of all checks of a family, if none failed; the options are `contract_of`'s.

    Raises:
        ContractBroken: the message has every check that failed, and why.
        ValueError: as `contract_of`.
    """
    checks = contract_of(family, numbers, budget=budget, image_size=image_size)
    outcomes = tuple(check.outcome() for check in checks)
    if any(outcome.status == "fail" for outcome in outcomes):
        raise ContractBroken(family_of(family), outcomes)
    return outcomes
