"""Devices: precision, settings of the process, and names."""

from dataclasses import replace

import pytest
import torch

from archsearch.running.train_trial import train_trial
from archsearch.training.device import device_name, device_of, settings
from tests.training.trainings import CPU, SHORT, trial_folder


def test_a_device_that_cannot_train_is_reported_before_training(tmp_path):
    folder = trial_folder(tmp_path, replace(SHORT, precision="fp16"))
    with pytest.raises(ValueError, match="fp16 needs a GPU, this is cpu"):
        train_trial(folder.path)
    for name in ("banana", "cuda:7", "meta:"):
        with pytest.raises(ValueError, match=f"no device '{name}' here"):
            device_of(name)


def test_bf16_trains_on_a_cpu_and_keeps_its_weights_in_fp32(tmp_path):
    folder = trial_folder(tmp_path, replace(SHORT, precision="bf16"))
    train_trial(folder.path)
    assert folder.record().status == "complete"
    weights = folder.load_checkpoint()[1]["model"]
    assert {v.dtype for v in weights.values() if v.is_floating_point()} == {torch.float32}


def test_the_settings_of_the_process_are_restored():
    threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    with settings(replace(SHORT, threads=threads + 1), CPU):
        torch.manual_seed(1)
        assert torch.get_num_threads() == threads + 1
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), random_state)


def test_the_name_of_the_device_is_that_of_the_hardware():
    assert device_name(CPU).startswith("cpu (")
