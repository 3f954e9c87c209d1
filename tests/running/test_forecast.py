"""The time left of synthetic studies, whose end is computed event by event beforehand."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from archsearch.core.task import Data
from archsearch.families.internimage import Variant
from archsearch.running.forecast import Forecast
from archsearch.storage.quote import Quote
from archsearch.study import Trial
from tests import toy

DATA = Data("toy", "f" * 16, 10, 1, 8, 4, 4)
TRIALS = [Trial(Variant(16, 16, l1, 8), toy.recipe(), DATA, 0) for l1 in range(1, 8)]
SECONDS = {trial.id: 6.0 + 3 * i for i, trial in enumerate(TRIALS)}
SETUP, START, REPORT = 5.0, 1.5, 4.0
QUOTE = Quote(SECONDS, 2, START, SETUP, REPORT)

Event = tuple[float, str, Trial, int]
"""When it happens, what it is, the trial and its worker, or its epoch."""


@dataclass
class Clock:
    now: float = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


def simulated(slower: float, setup: float = SETUP, start: float = START) -> list[Event]:
    """The events of two workers that train `TRIALS` in order, each so many times slower than
    quoted."""
    events, free = list[Event](), [1000.0, 1000.0]
    for i, trial in enumerate(TRIALS):
        worker = free.index(min(free))
        began, own_setup = free[worker], setup if i < 2 else 0.0
        events.append((began, "start", trial, worker))
        first_step = began + slower * (own_setup + start)
        epochs = slower * (SECONDS[trial.id] - start)
        for epoch in range(1, toy.EPOCHS + 1):
            events.append((first_step + epochs * epoch / toy.EPOCHS, "epoch", trial, epoch))
        free[worker] = first_step + epochs
        events.append((free[worker], "finish", trial, worker))
    order = {"epoch": 0, "finish": 1, "start": 2}
    return sorted(events, key=lambda event: (event[0], order[event[1]]))


def followed(forecast: Forecast, events: list[Event], clock: Clock) -> Iterator[None]:
    """Follow the events; yields after each of them."""
    forecast.workers = 2
    for at, kind, trial, number in events:
        clock.now = at
        if kind == "start":
            forecast.start(trial.id, f"worker {number}")
        elif kind == "epoch":
            forecast.advance(trial.id, number)
        else:
            forecast.finish(trial.id, complete=True)
        yield


def planned(quote: Quote | None) -> Forecast:
    forecast = Forecast(quote)
    for trial in TRIALS:
        forecast.plan(trial, macs=SECONDS[trial.id])  # without a quote, the size in some unit
    return forecast


def test_the_end_of_a_study_that_is_as_quoted_is_known_at_every_event(clock: Clock) -> None:
    events = simulated(slower=1)
    end = events[-1][0] + REPORT
    forecast = planned(QUOTE)
    for i, _ in enumerate(followed(forecast, events, clock)):
        left = forecast.remaining()
        assert left is not None
        if i > 0:  # both workers have begun
            assert clock.now + left.seconds == pytest.approx(end)
    assert left is not None
    assert left.seconds == REPORT


def test_between_events_the_time_left_falls_with_the_clock(clock: Clock) -> None:
    events = simulated(slower=1)
    forecast = planned(QUOTE)
    for _ in zip(range(9), followed(forecast, events, clock), strict=False):
        pass
    now, before = forecast.remaining(), clock.now
    clock.now += 0.5
    later = forecast.remaining()
    assert now is not None
    assert later is not None
    assert before + now.seconds == pytest.approx(clock.now + later.seconds)


def test_a_slower_study_is_quoted_again_from_what_it_took(clock: Clock) -> None:
    """The quote weighs as much as one training, so that its error fades as trainings end."""
    events = simulated(slower=2)
    end, forecast = events[-1][0] + REPORT, planned(QUOTE)
    errors = []
    for _ in followed(forecast, events[:-2], clock):
        left = forecast.remaining()
        assert left is not None
        errors.append((clock.now + left.seconds - 1000) / (end - 1000))
    assert errors[0] < 0.6  # as quoted, half as long
    assert errors[len(errors) // 2] == pytest.approx(1, abs=0.12)
    assert errors[-1] == pytest.approx(1, abs=0.02)


def test_without_a_quote_the_measured_speed_predicts_exactly(clock: Clock) -> None:
    events = simulated(slower=3, setup=0, start=0)
    forecast = planned(None)
    assert forecast.remaining() is None
    for kind, _ in zip(
        (event[1] for event in events), followed(forecast, events, clock), strict=True
    ):
        left = forecast.remaining()
        if kind != "start" and left is not None:
            assert clock.now + left.seconds == pytest.approx(events[-1][0])
    assert left is not None


def test_a_diverged_trial_counts_as_far_as_it_came_and_is_not_left(clock: Clock) -> None:
    forecast = planned(None)
    forecast.workers = 1
    first = TRIALS[0]
    forecast.start(first.id, "worker 0")
    clock.now += 10
    forecast.advance(first.id, 1)
    clock.now += 500  # no part of a pair: nothing says how far it came by then
    forecast.finish(first.id, complete=False)
    left = forecast.remaining()
    assert left is not None
    rate = 10 / SECONDS[first.id]
    size = sum(SECONDS[trial.id] * toy.EPOCHS for trial in TRIALS[1:])
    assert left.seconds == pytest.approx(rate * size)


def test_epochs_of_an_earlier_run_are_neither_left_nor_measured(clock: Clock) -> None:
    forecast = planned(None)
    forecast.workers = 1
    first = TRIALS[0]
    forecast.advance(first.id, 2)  # read from its events before it starts again
    forecast.start(first.id, "worker 0")
    clock.now += 9
    forecast.advance(first.id, 1)  # repeated from an older checkpoint
    assert forecast.remaining() is None
    forecast.advance(first.id, 3)
    left = forecast.remaining()
    assert left is not None
    size = sum(SECONDS[trial.id] * toy.EPOCHS for trial in TRIALS[1:])
    assert left.seconds == pytest.approx(9 / SECONDS[first.id] * size)


def seconds_left(forecast: Forecast, unplanned: int = 0) -> float:
    left = forecast.remaining(unplanned)
    assert left is not None
    return left.seconds


def test_a_trial_counts_until_its_record_and_not_only_until_its_last_epoch(clock: Clock) -> None:
    forecast = planned(None)
    forecast.workers = 1
    first = TRIALS[0]
    forecast.start(first.id, "worker 0")
    clock.now += 10
    forecast.advance(first.id, toy.EPOCHS)
    clock.now += 2  # the test split
    forecast.finish(first.id, complete=True)
    rest = sum(SECONDS[trial.id] for trial in TRIALS[1:])
    assert seconds_left(forecast) == pytest.approx(12 / SECONDS[first.id] * rest)


@pytest.mark.usefixtures("clock")
def test_an_epoch_that_is_repeated_is_not_left_again() -> None:
    forecast = planned(QUOTE)
    forecast.advance(TRIALS[0].id, 2)
    before = seconds_left(forecast)
    forecast.advance(TRIALS[0].id, 1)
    assert seconds_left(forecast) == before


@pytest.mark.usefixtures("clock")
def test_trials_that_a_plan_may_add_are_of_the_mean_size() -> None:
    forecast = planned(QUOTE)
    forecast.workers = 1
    mean = sum(SECONDS.values()) / len(SECONDS)
    assert seconds_left(forecast, 2) - seconds_left(forecast) == pytest.approx(2 * mean)


@pytest.mark.parametrize("slower", [0.2, 1, 5])
def test_a_start_of_workers_that_differs_from_the_quote_changes_no_later_trial(
    clock: Clock, slower: float
) -> None:
    forecast = planned(QUOTE)
    forecast.workers = 1
    first = TRIALS[0]
    epoch = (SECONDS[first.id] - START) / toy.EPOCHS
    forecast.start(first.id, "worker 0")
    clock.now += slower * SETUP + START + epoch
    forecast.advance(first.id, 1)
    rest = sum(SECONDS[trial.id] for trial in TRIALS[1:]) + REPORT
    assert seconds_left(forecast) == pytest.approx(2 * epoch + rest)
    clock.now += 2 * epoch
    forecast.finish(first.id, complete=True)
    assert seconds_left(forecast) == pytest.approx(rest)
