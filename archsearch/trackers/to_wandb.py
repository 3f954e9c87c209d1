"""Runs of Weights & Biases in a folder, for ``wandb sync`` or never.

The network is not used, unless the user sets ``WANDB_MODE=online``.
"""

import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when wandb is imported

import wandb

from archsearch.trackers.folders import write_folders
from archsearch.trackers.trainings import Training, file_name


def write(trainings: Sequence[Training], target: str) -> int:
    """Write each new training to ``target/wandb/offline-run-TIME-KEY``; return their number."""
    return write_folders(trainings, Path(target), "wandb/*run-*", _write, _folder_of)


def _folder_of(_: Training, folder: Path) -> str:
    return f"wandb/{folder.name}"


def _write(training: Training, temporary: Path) -> Path:
    """Write one run: the project is the archsearch run, the group the cell."""
    run = wandb.init(
        dir=temporary,
        project=file_name(training.run),
        group=training.cell,
        name=training.name,
        id=training.key,
        config={**training.settings, "outcome": dict(training.outcome)},
        mode=os.environ.get("WANDB_MODE", "offline"),
        settings=_settings(),
    )
    for epoch, _, values in training.curve:
        run.log(dict(values), step=epoch)
    run.summary.update({**training.final, "status": training.outcome["status"]})
    run.finish(exit_code=0 if training.complete else 1)
    return Path(run.dir).parent


def _settings() -> wandb.Settings:
    """Return settings that store nothing of this process, which did not train."""
    return wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
