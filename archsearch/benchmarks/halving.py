"""What halving saves and loses: ``python -m archsearch.benchmarks.halving RUN --out FOLDER``.

RUN is a grid. What its networks lack of SEEDS in full, and all of them at the cheap rungs, is
trained in FOLDER (the same command goes on). Then `archsearch.searching.halving.halving` is
replayed over all those records: a trial's identity is its content, so a replay asks for just the
trainings that `--prune` would have made, and reads what they gave. Beside it stand the whole grid,
and a random part of the grid of as many trained epochs as halving took.

Each seed in turn is the pilot's, which makes the repeats. What one seed chose is judged by the
other seeds, which had no part in the choice; what all seeds chose, by all of them.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import comb
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from archsearch.cli.output import print_rows
from archsearch.core.family import Family
from archsearch.core.metrics import Metric
from archsearch.core.plans import Over
from archsearch.core.task import Data, Task
from archsearch.searching.adaptive_plan import drive
from archsearch.searching.halving import Rung, halving, rungs
from archsearch.stats.intervals import interval, kendall_tau
from archsearch.storage.study_folder import StudyFolder
from archsearch.study import Record, Trial
from archsearch.tasks.classification import CLASSIFICATION

Scores = Mapping[Family, Mapping[int, float]]
"""Network -> seed -> what a training gave; the higher, the better."""


@dataclass(frozen=True)
class Choice:
    """What one way of searching took and chose, against the whole grid of the same seeds.

    ``epochs`` and ``seconds`` are shares of the grid's. ``loss`` is how much worse the chosen
    network is than the grid's choice (it may be negative: that one is chosen by noise too).
    """

    epochs: float
    seconds: float
    loss: float
    chosen: str = ""
    gates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Replay:
    """The records of a grid at every rung; all ``networks`` have all ``seeds``."""

    ladder: Sequence[Rung]
    networks: Sequence[Family]
    seeds: Sequence[int]
    data: Data
    records: Mapping[str, Record]
    by: Metric
    task: Task = CLASSIFICATION

    def record(self, rung: Rung, network: Family, seed: int) -> Record:
        return self.records[self._trial(rung, network, seed).id]

    def _trial(self, rung: Rung, network: Family, seed: int) -> Trial:
        return Trial(network, rung.recipe, self.data, seed, self.task)

    def scores(self, rung: Rung) -> Scores:
        """What every network gave at a rung."""
        return {v: {s: self._merit(rung, v, s) for s in self.seeds} for v in self.networks}

    def _merit(self, rung: Rung, network: Family, seed: int) -> float:
        value = self.by.of(self.record(rung, network, seed))
        assert value is not None, "checked when they were read"
        return self.by.merit(value)

    def halve(self, seeds: Sequence[int], force: bool = False) -> Choice:
        """What ``--prune`` would have done; the first of ``seeds`` is the pilot's."""
        asked: dict[str, Record] = {}

        def record_of(trial_id: str) -> Record:
            return asked.setdefault(trial_id, self.records[trial_id])

        steps = halving(
            self.networks,
            self.ladder,
            self.data,
            seeds,
            task=self.task,
            measure=self.by.name,
            force=force,
        )
        outcome = drive(steps, record_of)
        assert outcome is not None, "a record is missing"
        in_full = [
            v
            for v in self.networks
            if all(self._trial(self.ladder[-1], v, seed).id in asked for seed in seeds)
        ]
        scores = self.scores(self.ladder[-1])
        chosen = best(scores, seeds, in_full)
        return Choice(
            outcome.spent / outcome.grid,
            sum(r.seconds for r in asked.values()) / self._grid_seconds(seeds),
            self._grid_value(scores, seeds) - judged(scores, seeds, chosen),
            chosen.name,
            tuple(gate.reason for gate in outcome.gates),
        )

    def at_random(self, seeds: Sequence[int], epochs: float) -> Choice:
        """The best of as many networks drawn at random as that share of the epochs trains; exact:
        the r-th best of n is the best of k drawn with the chance C(n-r, k-1) / C(n, k).
        """
        scores, n = self.scores(self.ladder[-1]), len(self.networks)
        k = max(1, min(n, round(epochs * n)))
        order = sorted(self.networks, key=lambda v: -mean(scores, v, seeds))
        chances = [comb(n - r, k - 1) / comb(n, k) for r in range(1, n + 1)]
        expected = sum(p * judged(scores, seeds, v) for p, v in zip(chances, order, strict=True))
        return Choice(k / n, k / n, self._grid_value(scores, seeds) - expected)

    def _grid_value(self, scores: Scores, seeds: Sequence[int]) -> float:
        return judged(scores, seeds, best(scores, seeds, self.networks))

    def _grid_seconds(self, seeds: Sequence[int]) -> float:
        full = self.ladder[-1]
        return sum(self.record(full, v, s).seconds for v in self.networks for s in seeds)


def mean(scores: Scores, network: Family, seeds: Sequence[int]) -> float:
    return fmean(scores[network][seed] for seed in seeds)


def best(scores: Scores, seeds: Sequence[int], among: Sequence[Family]) -> Family:
    return max(among, key=lambda v: mean(scores, v, seeds))


def judged(scores: Scores, seeds: Sequence[int], network: Family) -> float:
    """Its mean over the seeds that did not choose it; over all, where all did."""
    others = [seed for seed in scores[network] if seed not in seeds]
    return mean(scores, network, others or seeds)


def compare(replay: Replay) -> dict[str, list[Choice]]:
    """Every way of searching, with a repeat per seed: by one seed, and by all."""
    found: dict[str, list[Choice]] = {}
    for i, seed in enumerate(replay.seeds):
        turned = (*replay.seeds[i:], *replay.seeds[:i])
        for name, seeds in (("1 seed", (seed,)), (f"{len(turned)} seeds", turned)):
            gated, forced = replay.halve(seeds), replay.halve(seeds, force=True)
            ways = {"--prune gated": gated, "--prune force": forced}
            ways["at random, as many epochs"] = replay.at_random(seeds, gated.epochs)
            for way, choice in ways.items():
                found.setdefault(f"{way}, {name}", []).append(choice)
    return found


def agreement(replay: Replay) -> list[dict[str, Any]]:
    """Kendall's tau of every cheap rung with the full one over all networks, by seed."""
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


def read(
    run: Path, out: Path, seeds: Sequence[int], over: Over, workers: int | None, device: str
) -> Replay:
    """RUN's own trainings, and those that it lacks, trained where they are not there yet.

    Raises:
        ValueError: for fewer than two seeds or three networks, or a training without a value.
    """
    folder = StudyFolder(run)
    study, data = folder.study(), folder.data()
    networks = tuple(dict.fromkeys(c.variant for c in study.cells if c.variant is not None))
    if len(seeds) < 2 or len(networks) < 3:
        raise ValueError(
            f"wanted two seeds and a grid of three networks at least, got {len(seeds)} and "
            f"{len(networks)}"
        )
    ladder = rungs(study.recipe, over=over)
    records = dict[str, Record]()
    for i, rung in enumerate(ladder, 1):
        at_rung = replace(
            study, name=f"rung-{i}", recipe=rung.recipe, seeds=tuple(seeds), plan=None
        )
        theirs = _records(folder, at_rung.trials(data))
        lacking = tuple(t for t in at_rung.trials(data) if t.id not in theirs)
        place = StudyFolder(out / at_rung.name).create(at_rung, data)
        records |= theirs | _trained(place, lacking, workers, device)
    by = study.task.metric(study.metric)
    replay = Replay(ladder, networks, seeds, data, records, by, study.task)
    _check(replay)
    return replay


def _trained(
    folder: StudyFolder, trials: Sequence[Trial], workers: int | None, device: str
) -> dict[str, Record]:
    from archsearch.api.live import display
    from archsearch.api.session import Labels
    from archsearch.running.run import run_study

    with display(Labels(folder, seeds=True)) as show:
        run_study(folder, trials, workers=workers, device=device, on_change=show)
    return _records(folder, trials)


def _records(folder: StudyFolder, trials: Sequence[Trial]) -> dict[str, Record]:
    found = {trial.id: folder.trial(trial.id).record() for trial in trials}
    return {key: record for key, record in found.items() if record is not None}


def _check(replay: Replay) -> None:
    lost = [
        f"{network.name} seed {seed} ({rung.name})"
        for rung in replay.ladder
        for network in replay.networks
        for seed in replay.seeds
        if replay.by.of(replay.record(rung, network, seed)) is None
    ]
    if lost:
        raise ValueError(f"no value to compare by: {', '.join(lost)}")


def row(way: str, choices: Sequence[Choice]) -> dict[str, str]:
    """Means over the repeats, each with the half-width of its 95% interval."""

    def told(values: Sequence[float], form: str) -> str:
        found = interval(values)
        half = "" if found.half_width is None else f" ± {found.half_width:{form}}"
        return f"{found.mean:{form}}{half}"

    return {
        "way": way,
        "repeats": str(len(choices)),
        "epochs": told([c.epochs for c in choices], ".0%"),
        "time": told([c.seconds for c in choices], ".0%"),
        "loss": told([c.loss for c in choices], ".2f"),
        "chosen": ", ".join(dict.fromkeys(c.chosen for c in choices if c.chosen)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a grid")
    parser.add_argument("--out", type=Path, required=True, help="folder of the other trainings")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on: the repeats")
    parser.add_argument("--over", default="epochs", choices=get_args(Over))
    parser.add_argument("--workers", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="where to write everything that was found")
    chosen = parser.parse_args()
    seeds = range(chosen.seeds)
    replay = read(chosen.run, chosen.out, seeds, chosen.over, chosen.workers, chosen.device)
    ways, taus = compare(replay), agreement(replay)
    print_rows(taus, "Kendall's tau of a cheap ranking with the full one")
    print_rows([row(way, choices) for way, choices in ways.items()], "Against the whole grid")
    if chosen.json:
        plain = {way: [asdict(c) for c in choices] for way, choices in ways.items()}
        chosen.json.write_text(json.dumps({"tau": taus, "ways": plain}, indent=1) + "\n")


if __name__ == "__main__":
    main()
