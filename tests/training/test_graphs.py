"""Passes by a graph, imitated on a CPU: recorded without being done, repeated on fixed memory."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from archsearch.running.preflight import preflight_device
from archsearch.training.device import settings
from archsearch.training.graphs import EAGER_CALLS, GraphedPasses
from archsearch.training.loop import fit
from archsearch.training.step import take_step
from tests.training.trainings import ALL_ON, CPU, after, new_training

RECIPE = replace(ALL_ON, crop="none", mixup=0.0, cutmix=0.0, epochs=4)
"""129 images: in each epoch four batches of 26 and one of 25; drop path and averaged weights on."""


class FakeGraph:
    """Capturing changes nothing but the gradients; replaying overwrites what the capture made."""

    def __init__(self, training, log):
        self.training, self.log = training, log

    def capture(self, work):
        parameters = list(self.training.model.parameters())
        assert all(parameter.grad is None for parameter in parameters)
        buffers = deepcopy(dict(self.training.model.named_buffers()))
        random = torch.get_rng_state()
        self.work, self.output = work, work()
        self.gradients = [parameter.grad for parameter in parameters]
        self._copy(self.training.model.named_buffers(), buffers)
        torch.set_rng_state(random)
        for fixed in (*self.gradients, self.output[0]):
            fixed.fill_(torch.nan)
        self.log.append("capture")
        return self.output

    def _copy(self, named, values):
        for name, tensor in named:
            tensor.copy_(values[name])

    def replay(self):
        parameters = list(self.training.model.parameters())
        for parameter in parameters:
            parameter.grad = None
        loss, _ = self.work()
        self.output[0].copy_(loss)
        for fixed, parameter in zip(self.gradients, parameters, strict=True):
            fixed.copy_(parameter.grad)
            parameter.grad = None
        self.log.append("replay")


def training_by_graphs(recipe, log, graph=FakeGraph):
    training = new_training(recipe)
    training.graphed = GraphedPasses(training.model, training.note, lambda: graph(training, log))
    return training


def trained(training, stop=lambda: False):
    with settings(training.recipe, CPU):
        fit(training, stop, lambda *_: None, lambda _: None)
    return training


def assert_same_numbers(one, other):
    states = [training.state() for training in (one, other)]
    for part in ("model", "average"):
        first, second = (state[part] for state in states)
        assert all(torch.equal(first[name], second[name]) for name in first)
    rows = [
        [{k: v for k, v in row.items() if "second" not in k} for row in state["progress"]["curve"]]
        for state in states
    ]
    assert rows[0] == rows[1]


def test_training_by_graphs_has_the_numbers_of_training_without():
    log = []
    graphed, plain = trained(training_by_graphs(RECIPE, log)), trained(new_training(RECIPE))
    assert_same_numbers(graphed, plain)
    assert log.count("capture") == 2
    assert log.count("replay") == (16 - EAGER_CALLS) + (4 - EAGER_CALLS)
    assert graphed.progress.notes == []


def test_a_stopped_training_by_graphs_resumes_to_the_same_numbers():
    first = training_by_graphs(RECIPE, [])
    with pytest.raises(BaseException, match="stopped"):
        trained(first, after(8))
    second = training_by_graphs(RECIPE, [])
    second.load_state(deepcopy(first.state()))
    assert_same_numbers(trained(second), trained(new_training(RECIPE)))


def test_a_capture_that_fails_is_noted_once_and_training_goes_on_without():
    class Failing(FakeGraph):
        def capture(self, work):
            self.log.append("capture")
            work()
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

        replay = None

    recipe = replace(RECIPE, drop_path=0.0)  # this capture draws, as a real one does not
    log = []
    training, plain = training_by_graphs(recipe, log, Failing), new_training(recipe)
    for _ in range(2):
        for one in (training, plain):
            for batch in one.remaining_batches():
                take_step(one, batch)
            one.progress.step, one.progress.epoch = 0, one.progress.epoch + 1
    weights = zip(training.model.parameters(), plain.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)
    reason = "no CUDA graphs: operation not permitted when stream is capturing"
    assert training.progress.notes == [reason]
    assert log == ["capture"]


def test_a_batch_in_several_parts_is_computed_without_graphs():
    log = []
    training, plain = training_by_graphs(RECIPE, log), new_training(RECIPE)
    for one in (training, plain):
        one.limit_micro_batch(16)
    assert_same_numbers(trained(training), trained(plain))
    assert log == []


def test_graphs_are_off_unless_requested_and_only_for_gpus(monkeypatch):
    monkeypatch.setenv("ARCHSEARCH_CUDA_GRAPHS", "1")
    assert new_training().graphed is None
    monkeypatch.setenv("ARCHSEARCH_CUDA_GRAPHS", "yes")
    with pytest.raises(ValueError, match="ARCHSEARCH_CUDA_GRAPHS must be 0 or 1, got 'yes'"):
        preflight_device(RECIPE, "cpu")
