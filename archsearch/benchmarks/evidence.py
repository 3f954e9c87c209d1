"""Train the study of the paper's four orderings: ``python -m archsearch.benchmarks.evidence``.

`archsearch.studies.evidence` is the design. It is trained in parts: one more seed of the 14
stacking networks and two more of the five pairs, so that a stopped study is balanced. After every
part the records are copied without weights to ``--records``, with reports. The same command
continues a stopped study, also on another machine: what ``--records`` has is not trained again. It
runs at low priority.

``--findings`` trains nothing and prints the verdicts from ``--records``.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archsearch.api.live import display, say
from archsearch.api.session import TrialLabels
from archsearch.cli.output import print_rows
from archsearch.reports.formats import Table, as_markdown
from archsearch.reports.render import render_all
from archsearch.results import Results, load
from archsearch.running.run import StudyStopped, run_study
from archsearch.storage.publish import publish, restore
from archsearch.storage.study_folder import StudyFolder
from archsearch.studies.evidence import NUM_SEEDS, pairs, stacking
from archsearch.studies.evidence_verdicts import METRICS, findings
from archsearch.study import Study, Trial
from archsearch.tasks.classification import CLASSIFICATION

RECORDS = Path("studies/results")
NICENESS = 10


def train_in_parts(
    studies: Sequence[Study],
    num_parts: int,
    out: Path,
    records: Path,
    *,
    command: Sequence[str] = (),
    max_hours: float | None = None,
    **options: Any,
) -> int:
    """Train what ``out`` and ``records`` lack, part by part, and copy the records after each part.

    A part has the next seeds of every study. ``options`` are those of
    `archsearch.running.run.run_study`.

    Returns:
        The number of trainings of this call.

    Raises:
        archsearch.running.run.StudyStopped: on Ctrl-C and as `run_study`; the same call resumes.
        ValueError: for unusable data or folders.
    """
    deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours
    folders = [_opened(study, out / study.name, records / study.name, command) for study in studies]
    num_trained = 0
    for part in range(num_parts):
        for folder in folders:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) / 3600
            trials = _lacking(folder, part, num_parts)
            if trials:
                _train(folder, trials, records / folder.path.name, max_hours=left, **options)
            num_trained += len(trials)
    return num_trained


def _opened(study: Study, path: Path, copy: Path, command: Sequence[str]) -> StudyFolder:
    """Return the folder of a study, with the records that only the copy has."""
    data = study.task.describe(study.data, study.recipe)
    if (copy / "study.json").exists() and (restored := restore(copy, path)):
        say(f"{study.name}: {restored} records from {copy}")
    return StudyFolder(path).create(study, data, command)


def _lacking(folder: StudyFolder, part: int, num_parts: int) -> list[Trial]:
    """Return the trials of the part's seeds that have no record."""
    seeds = folder.study().seeds
    first, end = (len(seeds) * p // num_parts for p in (part, part + 1))
    trials = (t for t in folder.trials() if t.seed in seeds[first:end])
    return [t for t in trials if folder.record_summary(t.id) is None]


def _train(folder: StudyFolder, trials: list[Trial], copy: Path, **options: Any) -> None:
    say(f"{folder.path.name}: {len(trials)} trainings, up to seed {trials[-1].seed}")
    try:
        with display(TrialLabels(folder, show_seeds=True)) as show:
            run_study(folder, trials, on_change=show, **options)
    finally:
        publish(folder.path, copy)
    render_all([copy], copy / "reports")
    say(f"Records: {copy}")


def print_findings(records: Path, ended: bool) -> None:
    """Print the effect and the verdict of every ordering, and the noise of the networks."""
    names = (stacking().name, pairs().name)
    runs = {n: load(records / n) for n in names if (records / n / "study.json").exists()}
    print(as_markdown(findings_table(runs, ended)))
    print_rows(noise_rows(runs), "Noise between seeds, beside networks and the effects of seeds")


def findings_table(runs: Mapping[str, Results], ended: bool = False) -> Table:
    """Return the table of `docs/findings.md`: a row per ordering, a column per metric."""
    found = findings(runs, ended)
    by_metric = {name: [f for f in found if f.metric == name] for name in METRICS}
    deciding = by_metric[next(iter(METRICS))]
    columns = {
        "the paper's order": [f.ordering.text for f in deciding],
        "verdict": [f.outcome() for f in deciding],
        "seeds": [str(f.test.num_seeds) if f.test else "0" for f in deciding],
    }
    for name, of in by_metric.items():
        columns[CLASSIFICATION.metric(name).label] = [
            f.effect() if of is deciding else f"{f.verdict}, {f.effect()}" for f in of
        ]
    note = (
        "Effects are positive if the paper's order holds, those of the loss too. Four intervals "
        "hold together with 95%; p-values are adjusted for four tests."
    )
    return Table.of(columns, (), note=note, title="The paper's four orderings")


def noise_rows(runs: dict[str, Results]) -> list[dict[str, Any]]:
    """Return the deviation of the noise of every ordering's networks, and the seeds left out."""
    return [
        {
            "ordering": finding.ordering.name,
            "metric": finding.metric,
            "deviation": f"{finding.deviation:.3g}",
            "seeds left out": ", ".join(map(str, finding.seeds_left_out)),
        }
        for finding in findings(runs)
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="cifar10", help="train on cifar10 or cifar10:PATH")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/evidence"), help="train in this folder"
    )
    parser.add_argument(
        "--records", type=Path, default=RECORDS, help="keep the records without weights here"
    )
    parser.add_argument("--workers", type=int, help="run this many trainings at the same time")
    parser.add_argument("--device", default="auto", help="train on auto, cpu, cuda or cuda:N")
    parser.add_argument("--max-hours", type=float, help="stop after this many hours")
    parser.add_argument("--findings", action="store_true", help="print the verdicts; train nothing")
    parser.add_argument(
        "--ended", action="store_true", help="the study has ended early: give verdicts as it is"
    )
    return parser


def main() -> None:
    options = _parser().parse_args()
    if options.findings:
        print_findings(options.records, options.ended)
        return
    os.nice(NICENESS)
    command = ["python", "-m", "archsearch.benchmarks.evidence", "--data", options.data]
    try:
        num_trained = train_in_parts(
            [stacking(data=options.data), pairs(data=options.data)],
            NUM_SEEDS,
            options.out,
            options.records,
            command=command,
            max_hours=options.max_hours,
            workers=options.workers,
            device=options.device,
        )
    except StudyStopped as stop:
        say(str(stop))
        sys.exit(stop.exit_code)
    say(f"{num_trained} trainings; every planned training has a record.")


if __name__ == "__main__":
    main()
