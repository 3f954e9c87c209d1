"""Fine-tuning of the networks of a classification run: the request, and its training."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from archsearch.api.full_training import Chosen, FullTraining
from archsearch.api.keywords import evaluate_all, from_options, option
from archsearch.api.options import EPOCHS_HELP, SET_HELP, Launch, Seeds, parse_seeds
from archsearch.api.session import RUNS, train_and_report
from archsearch.core.numbers import quoted
from archsearch.study import Study

if TYPE_CHECKING:
    from archsearch.storage.study_folder import StudyFolder


@dataclass(frozen=True, kw_only=True)
class Downstream:
    """Fine-tune the networks of a classification run as detectors or segmenters.

    The report says whether the network that classifies best is also the best there. Every training
    starts from the weights that the training of the same cell and seed has kept; a seed without
    weights of its own takes those of the cell's other seeds in turn.
    """

    task: Literal["segment", "detect"] = option("segment", "Train segmenters or detectors.")
    cells: str = option(
        "all",
        "Fine-tune all cells, or the N networks that classify best.",
        metavar="all|best:N",
    )
    head: str | None = option(
        None,
        "Use this head, as in `archsearch train`; the default is that of the task.",
        metavar="NAME",
    )
    head_width: int | None = option(
        None, "Give the head this many channels; the default is the published 256 or 512."
    )
    data: str | None = option(
        None,
        "Segment pasted (the default) or ade20k:DIR, detect on pasted or coco:DIR.",
        metavar="NAME",
    )
    recipe: str | None = option(
        None, "Train with this recipe, as in `archsearch train`.", metavar="NAME"
    )
    seeds: Seeds | None = option(
        None,
        "Train this many seeds, or the seeds of a list (0,4,7); the default are those of RUN.",
        text=str,
        metavar="N|LIST",
    )
    epochs: int | None = option(None, EPOCHS_HELP)
    set: Mapping[str, Any] | Sequence[str] | None = option(
        None, SET_HELP, text=list[str], metavar="KEY=VALUE"
    )

    def study(self, run: Path) -> Study:
        """Return the study of the cells of the run in this folder.

        Raises:
            ValueError: naming every wrong option, and every cell without weights.
        """
        from archsearch.results import load
        from archsearch.studies.downstream import study

        results, chosen, best, seeds = evaluate_all(
            lambda: load(run), self._chosen, self._best, self._seeds
        )
        return study(
            results, run, task=chosen.task, recipe=chosen.recipe, data=chosen.data,
            best=best, seeds=seeds,
        )  # fmt: skip

    def _chosen(self) -> Chosen:
        return from_options(FullTraining, vars(self) | {"seed": 0}).chosen("T")

    def _best(self) -> int | None:
        if self.cells == "all":
            return None
        if not re.fullmatch(r"best:[1-9]\d{0,5}", self.cells, re.ASCII):
            raise ValueError(
                f"cells must be all or best:N, such as best:5, got {quoted(self.cells)}"
            )
        return int(self.cells.removeprefix("best:"))

    def _seeds(self) -> tuple[int, ...]:
        if self.seeds is None:
            return ()
        seeds, most = parse_seeds(self.seeds)
        if most is not None:
            raise ValueError(
                f"seeds of a fine-tuning must be a number (3) or a list (0,4,7), got {self.seeds}"
            )
        return seeds


def downstream_and_report(
    run: Path, study: Study, launch: Launch, command: Iterable[str]
) -> "StudyFolder":
    """Fine-tune what is not trained yet and write the report; repeat the call to resume.

    Raises:
        ValueError: for unusable data, folders or runners, before anything is trained.
        archsearch.running.run.StudyStopped: if the study ends before its plan is done.
    """
    if launch.out is None:
        head = study.task.to_dict()["head"]
        launch = replace(launch, out=RUNS / f"downstream-{head}-{run.resolve().name}")
    return train_and_report(study, launch, command, starts_from=run)
