"""Latency as a budget or an objective: networks are measured, then a grid or a search trains.

The measurements are a study in a folder of the run, so the same command resumes them.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from archsearch.api.latency_measurements import Measurements
from archsearch.api.options import Launch, Training
from archsearch.api.requests import Grid, Scale
from archsearch.api.search_request import Search
from archsearch.api.session import (
    RUNS,
    checked_data,
    folder_name,
    say_failed,
    train_and_report,
    train_study,
    write_reports,
)
from archsearch.core import plans
from archsearch.core.plans import LATENCIES, Latency
from archsearch.latency.known import Latencies
from archsearch.latency.target import Target
from archsearch.study import Study

if TYPE_CHECKING:
    from archsearch.core.family import Family
    from archsearch.storage.study_folder import StudyFolder
    from archsearch.studies.latency import LatencyGrid, LatencySearch

Planned: TypeAlias = "Study | LatencyGrid | LatencySearch"


def planned_of(request: Grid | Scale | Search, training: Training) -> Planned:
    """Return the study of a request, or what is measured before there is one.

    Raises:
        ValueError: naming every wrong option.
    """
    if isinstance(request, Scale):
        return request.study(training)
    return request.planned(training)


def train_planned(planned: Planned, launch: Launch, command: Iterable[str]) -> "StudyFolder":
    """Train a study and write its reports, after measurements if it needs them.

    Raises:
        ValueError: as `train_and_report`; or a target fails, or its times are not stable.
        archsearch.running.run.StudyStopped: if it ends before its plan is done.
    """
    from archsearch.running.stopping import stopped_by_storage

    if isinstance(planned, Study):
        return train_and_report(planned, launch, command)
    path, command = folder_of(planned, launch), list(command)
    latency, study = _latency(planned), planned.study()
    is_search = isinstance(study.plan, plans.Search)  # of a grid no cell is known yet
    data = checked_data(study if is_search else _first(planned, latency), launch, path)
    with stopped_by_storage(path, command):
        _check_folder(path)
        run = Measurements(planned, latency, data, launch, path, command)
        study = planned.study(run.complete())
        folder, counts = train_study(study, data, launch.later(run.started), path, command)
        run.add(_chosen(folder.path))
        write_reports([folder.path])
        say_failed(path, counts)
    return folder


def folder_of(planned: "LatencyGrid | LatencySearch", launch: Launch) -> Path:
    """Return the folder of the run: ``runs/grid-5ms-digits``."""
    if launch.out:
        return Path(launch.out)
    return RUNS / folder_name(replace(planned.study(), name=planned.name))


def _latency(planned: "LatencyGrid | LatencySearch") -> Latency:
    """Return the plan of the measurements, after a check that the target can be used.

    Raises:
        ValueError: packages are missing.
    """
    from internimage.onnx import require

    latency = planned.latency("")
    target = Target.parse(latency.target)
    require(*target.packages)
    return replace(latency, device=_processor() if target.is_local else "")


def _processor() -> str:
    import torch

    from archsearch.training.device import device_name

    return device_name(torch.device("cpu"))


def _first(planned: "LatencyGrid | LatencySearch", latency: Latency) -> Study:
    """Return the study of the first networks that are measured."""
    from archsearch.studies.latency import measurements

    study = planned.study()
    nothing = Latencies(study.recipe.image_size, num_classes=1)
    return measurements(study, latency, planned.to_measure(nothing))


def _check_folder(path: Path) -> None:
    """Refuse the folder of a study without a latency, before anything is measured in it."""
    from archsearch.storage.study_folder import StudyFolder

    if (path / "study.json").exists() and not (path / LATENCIES / "study.json").exists():
        name = StudyFolder(path).request()["name"]
        raise ValueError(
            f"{path} holds the study {name} without a latency: choose another folder with --out"
        )


def _chosen(path: Path) -> "list[Family]":
    """Return the networks that the trainings of a run have chosen: the best, or the front."""
    from archsearch.results import load
    from archsearch.results.latencies import front

    results = load(path)
    if isinstance(results.study.plan, plans.Search):
        return front(results)
    best = results.compare().ranking.best
    variant = None if best is None else results.network(best).cell.variant
    return [] if variant is None else [variant]
