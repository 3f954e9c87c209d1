"""What halving saves and loses: ``python -m archsearch.benchmarks.halving RUN --out FOLDER``.

RUN is a grid. The full trainings that its networks lack, and all trainings at the cheap rungs, are
run in FOLDER (repeat the command to resume). Then `archsearch.searching.halving.halving` is
replayed with all these records: a trial's identity is its content, so a replay requests just the
trainings that `--prune` would have run, and reads their records. The replay is compared with the
complete grid, and with a random part of the grid that trains as many epochs as halving.

Each seed in turn is the pilot's first seed, which gives the repeats. A choice by one seed is judged
by the other seeds; a choice by all seeds is judged by all of them.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from archsearch.benchmarks.halving_replay import Choice, Replay
from archsearch.cli.output import print_rows
from archsearch.core.plans import Over
from archsearch.searching.rungs import Rung, rungs
from archsearch.stats import rank_agreement
from archsearch.stats.intervals import interval, kendall_tau
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record, Trial


def compare(replay: Replay) -> dict[str, list[Choice]]:
    """Return the choices of every search method, by one seed and by all, with a repeat per seed."""
    choices: dict[str, list[Choice]] = {}
    for i, seed in enumerate(replay.seeds):
        rotated = (*replay.seeds[i:], *replay.seeds[:i])
        for name, seeds in (("1 seed", (seed,)), (f"{len(rotated)} seeds", rotated)):
            gated, forced = replay.halve(seeds), replay.halve(seeds, force=True)
            methods = {"--prune gated": gated, "--prune force": forced}
            methods["at random, as many epochs"] = replay.at_random(seeds, gated.epochs)
            for method, choice in methods.items():
                choices.setdefault(f"{method}, {name}", []).append(choice)
    return choices


def agreement(replay: Replay) -> list[dict[str, Any]]:
    """Return Kendall's tau of every cheap rung with the full one over all networks, by seed."""
    full = replay.scores(replay.ladder[-1])
    rows = []
    for rung in replay.ladder[:-1]:
        cheap = replay.scores(rung)
        for seed in replay.seeds:
            tau = kendall_tau(
                [cheap[v][seed] for v in replay.networks], [full[v][seed] for v in replay.networks]
            )
            rows.append({"rung": rung.name, "seed": seed} | asdict(tau))
    return rows


def corrected(replay: Replay) -> list[dict[str, Any]]:
    """Return each cheap rung's agreement with the full one, corrected for the noise of seeds."""
    full = _by_seed(replay, replay.ladder[-1])
    return [
        {"rung": rung.name} | asdict(rank_agreement.agreement(_by_seed(replay, rung), full))
        for rung in replay.ladder[:-1]
    ]


def _by_seed(replay: Replay, rung: Rung) -> rank_agreement.Array:
    scores = replay.scores(rung)
    return np.array([[scores[v][seed] for v in replay.networks] for seed in replay.seeds])


def read(
    run: Path, out: Path, seeds: Sequence[int], over: Over, workers: int | None, device: str
) -> Replay:
    """Return the run's trainings and the missing ones, which are trained first.

    Raises:
        ValueError: for fewer than two seeds or three networks, or a training without a value.
    """
    folder = StudyFolder(run)
    study, data = folder.study(), folder.data()
    networks = tuple(dict.fromkeys(c.variant for c in study.cells if c.variant is not None))
    if len(seeds) < 2 or len(networks) < 3:
        raise ValueError(
            "the benchmark needs at least two seeds and a grid of three networks, got "
            f"{len(seeds)} and {len(networks)}"
        )
    ladder = rungs(study.recipe, over=over)
    records = dict[str, Record]()
    for i, rung in enumerate(ladder, 1):
        at_rung = replace(
            study, name=f"rung-{i}", recipe=rung.recipe, seeds=tuple(seeds), plan=None
        )
        trials = at_rung.trials(data)
        existing = folder.records(trial.id for trial in trials)
        missing = tuple(trial for trial in trials if trial.id not in existing)
        rung_folder = StudyFolder(out / at_rung.name).create(at_rung, data)
        records |= existing | _train(rung_folder, missing, workers, device)
    by = study.task.metric(study.metric)
    replay = Replay(ladder, networks, seeds, data, records, by, study.task)
    _check(replay)
    return replay


def _train(
    folder: StudyFolder, trials: Sequence[Trial], workers: int | None, device: str
) -> dict[str, Record]:
    from archsearch.api.live import display
    from archsearch.api.session import TrialLabels
    from archsearch.running.run import run_study

    with display(TrialLabels(folder, show_seeds=True)) as show:
        run_study(folder, trials, workers=workers, device=device, on_change=show)
    return folder.records(trial.id for trial in trials)


def _check(replay: Replay) -> None:
    lost = [
        f"{network.name} seed {seed} ({rung.name})"
        for rung in replay.ladder
        for network in replay.networks
        for seed in replay.seeds
        if replay.by.value_of(replay.record(rung, network, seed)) is None
    ]
    if lost:
        raise ValueError(f"these trainings have no value to compare: {', '.join(lost)}")


def row(method: str, choices: Sequence[Choice]) -> dict[str, str]:
    """Return the means over the repeats, each with the half-width of its 95% interval."""

    def text(values: Sequence[float], form: str) -> str:
        estimate = interval(values)
        half = "" if estimate.half_width is None else f" ± {estimate.half_width:{form}}"
        return f"{estimate.mean:{form}}{half}"

    return {
        "method": method,
        "repeats": str(len(choices)),
        "epochs": text([c.epochs for c in choices], ".0%"),
        "time": text([c.seconds for c in choices], ".0%"),
        "loss": text([c.loss for c in choices], ".2f"),
        "chosen": ", ".join(dict.fromkeys(c.chosen for c in choices if c.chosen)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="use the grid in this folder")
    parser.add_argument(
        "--out", type=Path, required=True, help="write the other trainings to this folder"
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="train the seeds 0 to N-1, which are the repeats"
    )
    parser.add_argument(
        "--over", default="epochs", choices=get_args(Over), help="reduce this in cheap trainings"
    )
    parser.add_argument("--workers", type=int, help="run this many trials at the same time")
    parser.add_argument("--device", default="auto", help="train on auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    options = parser.parse_args()
    seeds = range(options.seeds)
    replay = read(options.run, options.out, seeds, options.over, options.workers, options.device)
    methods, taus, without_noise = compare(replay), agreement(replay), corrected(replay)
    print_rows(taus, "Kendall's tau of a cheap ranking with the full one")
    print_rows(without_noise, "The same without the noise of seeds")
    print_rows([row(m, choices) for m, choices in methods.items()], "Compared with the grid")
    if options.json:
        plain = {method: [asdict(c) for c in choices] for method, choices in methods.items()}
        options.json.write_text(
            json.dumps({"tau": taus, "corrected": without_noise, "ways": plain}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
