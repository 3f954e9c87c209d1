"""Is the network that classifies best also the best for detection or segmentation?

Each cell of a classification run is fine-tuned from the weights that its trainings have kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from archsearch.core.cell import Cell
from archsearch.core.family import Family
from archsearch.core.recipe import Recipe
from archsearch.core.start import Start
from archsearch.core.task import Task
from archsearch.results import UNFINISHED, CellResult, Results
from archsearch.storage import checkpoint
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import About, Study
from archsearch.tasks.classification import CLASSIFICATION

ABOUT = About(
    question=(__doc__ or "").splitlines()[0],
    source="Sections 4.2 and 4.3 fine-tune one network per size (Tables 3, 4 and 5)",
    command="archsearch downstream RUN --task segment --seeds 2",
    small="six small networks, two seeds, UperNet on `pasted`: within an hour on two cores",
    full="every cell of a grid of 30M with Mask R-CNN, 12 epochs of COCO each (Table 3)",
)

MAX_NAMED = 20
"""A message names so many cells."""

TABLE_6_AP = {
    "nothing": (47.2, 42.5),
    "shared weights": (47.4, 42.6),
    "multi-group": (43.8, 40.0),
    "softmax": (38.7, 35.6),
}
"""What is removed -> box and mask AP in percent of Mask R-CNN T, 1x schedule, as printed."""


def study(
    results: Results,
    run: Path,
    *,
    task: Task,
    recipe: Recipe,
    data: str,
    best: int | None = None,
    seeds: Sequence[int] = (),
) -> Study:
    """The cells of a classification run, or the ``best`` of them, fine-tuned for another task.

    The seeds are by default those of the run. ``run`` is its folder, which holds the weights.

    Raises:
        ValueError: naming every cell without weights, and everything else that is in the way.
    """
    source, chosen = results.study, chosen_cells(results, best)
    starts = {cell.index: kept_weights(StudyFolder(run), cell) for cell in chosen}
    if problems := [*_problems(results, chosen, starts, run)]:
        raise ValueError("\n".join(problems))
    has_table_6 = source.name == "ablation" and task.to_dict().get("head") == "mask-rcnn"
    cells = tuple(_fine_tuned(cell, starts[cell.index], has_table_6) for cell in chosen)
    has_paper = any(cell.paper for cell in cells)
    return Study(
        name="downstream",
        question=ABOUT.question,
        source=ABOUT.source,
        cells=cells,
        recipe=recipe,
        data=data,
        seeds=tuple(seeds) or source.seeds,
        axes=source.axes,
        budget=source.budget,
        reports=("downstream", *(("paper",) if has_paper else ())),
        task=task,
    )


def chosen_cells(results: Results, best: int | None) -> tuple[CellResult, ...]:
    """The cells of a run in plan order: all, or those of the ``best`` networks of its ranking."""
    if best is None:
        return results.cells
    comparison = results.compare()
    merits = {k: comparison.metric.merit(v) for k, v in comparison.ranking.means.items()}
    labels = set(sorted(merits, key=lambda label: -merits[label])[:best])
    return tuple(cell for cell in results.cells if cell.label in labels)


def kept_weights(folder: StudyFolder, cell: CellResult) -> dict[str, Start]:
    """The undamaged weights that a cell's complete trainings have kept, by seed."""
    starts = {}
    for result in cell.trials:
        trial = result.trial
        kept = checkpoint.stored(folder.trial(trial.id).path)[:1]
        if result.state == "complete" and kept and checkpoint.is_intact(kept[0]):
            starts[str(trial.seed)] = Start(str(folder.path), trial.id, trial.seed, kept[0].sha256)
    return starts


def _fine_tuned(cell: CellResult, starts: Mapping[str, Start], has_table_6: bool) -> Cell:
    """The cell with its initial weights; one whose trainings have no result cannot be trained."""
    printed = TABLE_6_AP.get(str(cell.cell.requested.get("removed"))) if has_table_6 else None
    paper = {} if printed is None else dict(zip(("box AP", "mask AP"), printed, strict=True))
    planned = replace(cell.cell, settings={}, paper=paper)
    if planned.variant is None or starts:
        return replace(planned, starts=starts)
    reason = f"its classification training has no result: {cell.status_text}"
    return replace(planned, fate="infeasible", variant=None, cost=None, reason=reason)


def _problems(
    results: Results,
    chosen: Sequence[CellResult],
    starts: Mapping[int, Mapping[str, Start]],
    run: Path,
) -> Iterable[str]:
    """What keeps these cells from being fine-tuned, a sentence each."""
    if results.study.task != CLASSIFICATION:
        yield f"{run} trains no classifiers: give a run of classification"
        return
    lacking = [c for c in chosen if c.cell.variant is not None and not starts[c.index]]
    without = [c for c in lacking if any(t.state == "complete" for t in c.trials)]
    if unfinished := [c for c in lacking if c.state in UNFINISHED and c not in without]:
        yield f"{_named(unfinished)} of {run} did not finish: repeat the command of the run first"
    if without:
        yield (
            f"{run} has no undamaged weights of {_named(without)}. A training keeps them in its "
            f"folder, {run}/trials/ID/checkpoint-*.pt, and a published copy of a run has none: "
            "copy these files from where the run was trained, or train it again in another folder"
        )
    if not any(starts.values()) and not (unfinished or without):
        yield f"{run} has no cell with a result to start from"
    if same := _with_equal_networks(chosen):
        yield (
            f"{_named(same)} of {run} differ only in how they were trained: downstream they would "
            "be one network, so give a run with one recipe per network"
        )
    yield from _without_maps({c.cell.variant for c in chosen if c.cell.variant is not None})


def _named(cells: Sequence[CellResult]) -> str:
    labels = list(dict.fromkeys(cell.label for cell in cells))
    more = f" and {len(labels) - MAX_NAMED} more" if len(labels) > MAX_NAMED else ""
    word = "the cell" if len(labels) == 1 else "the cells"
    return f"{word} {', '.join(labels[:MAX_NAMED])}{more}"


def _with_equal_networks(cells: Sequence[CellResult]) -> list[CellResult]:
    """The cells whose network another cell has too, with other settings."""
    settings: dict[Family | None, set[str]] = {}
    for cell in cells:
        settings.setdefault(cell.cell.variant, set()).add(repr(sorted(cell.cell.settings.items())))
    return [c for c in cells if c.cell.variant and len(settings[c.cell.variant]) > 1]


def _without_maps(variants: set[Family]) -> Iterable[str]:
    """A sentence per family that has no maps for a head."""
    for variant in {type(v): v for v in variants}.values():
        if type(variant).build_backbone is Family.build_backbone:
            try:
                variant.build_backbone()
            except ValueError as error:
                yield str(error)
