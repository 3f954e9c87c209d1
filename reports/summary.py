"""The answer of a run, first and in plain words: who won, how sure that is, what it costs."""

from dataclasses import dataclass

from archsearch.core.metrics import METRICS, metric
from archsearch.families.internimage import Variant
from archsearch.reports.cell_order import shown
from archsearch.reports.phrases import (
    confounding,
    duration,
    listed,
    percent,
    plural,
    single_seed_warning,
    with_interval,
)
from archsearch.results import CellResult, Comparison, Results


@dataclass(frozen=True)
class Answer:
    """``headline`` answers the question, ``sure`` says how far to trust it, ``facts`` are name and
    value, ``caveats`` what else must be known."""

    headline: str
    sure: str
    facts: tuple[tuple[str, str], ...]
    caveats: tuple[str, ...]


def answer(results: Results, metric_name: str | None = None) -> Answer:
    """What a run says about its question, by one metric."""
    compared = results.compare(metric_name)
    best = compared.ranking.best
    if best is None:
        return Answer(
            _nothing_yet(results, compared), "", _progress(results), _caveats(results, compared)
        )
    winner = results.network(best)
    facts = (*_name(winner), *_cost(winner), *_test(results, winner, compared), *_progress(results))
    return Answer(
        _headline(winner, compared), _sure(results, compared), facts, _caveats(results, compared)
    )


def _nothing_yet(results: Results, compared: Comparison) -> str:
    ended, label = sum(t.record is not None for t in results.trials), compared.metric.label.lower()
    if not ended:
        return "No training has finished yet."
    if not any(t.state == "complete" for t in results.trials):
        return f"None of the {plural(ended, 'finished training')} gave a result."
    if not any(e is not None for e in compared.estimates):
        return f"No training has a value for {label}."
    return f"No network can be compared by {label}."


def _headline(winner: CellResult, compared: Comparison) -> str:
    value = with_interval(compared.metric, shown(winner, compared), compared.digits)
    name, label = winner.label, compared.metric.label.lower()
    others = len(compared.ranking.tied) - 1
    end = "highest" if compared.metric.higher_is_better else "lowest"
    if not compared.ranking.can_rank:
        return f"No cell can be called best. {name} shows the {end} {label}, {value}."
    if not others:
        return f"{name} is best, with {value} {label}."
    if others + 1 == len(compared.ranking.means):
        return f"No network stands out. {name} has the {end} mean {label}, {value}."
    return f"{name} leads with {value} {label}, but not alone."


def _sure(results: Results, compared: Comparison) -> str:
    ranking = compared.ranking
    if compared.metric.counted:
        return "Counted, not measured: there is no noise in it."
    if not ranking.can_rank:
        return single_seed_warning(results, compared) or _sentence(ranking.reason)
    networks, tied = len(ranking.means), len(ranking.tied)
    how = f"at {percent(ranking.level)} confidence over all {networks} networks at once"
    if tied == 1:
        return f"Each of the other {networks - 1} networks is shown to be worse, {how}."
    if tied == networks:
        return (
            f"None of the {networks} networks is shown to be worse than the best, {how}. "
            f"{_cheapest(results, compared)}"
        )
    return (
        f"{plural(tied - 1, 'other network')} cannot be told from it; {networks - tied} "
        f"{'is' if networks - tied == 1 else 'are'} shown to be worse, "
        f"{how}. {_cheapest(results, compared)}"
    )


def _cheapest(results: Results, compared: Comparison) -> str:
    """Among those that tie, cost decides."""
    macs = METRICS["macs"]
    tied = [results.network(label) for label in compared.ranking.tied]
    priced = [(size, cell.label) for cell in tied if (size := cell.counted(macs)) is not None]
    if len(priced) < 2:
        return ""
    size, label = min(priced)
    same = " itself" if label == compared.ranking.best else ""
    return f"The cheapest of them is {label}{same}, {macs.text(size)} G multiply-adds."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _name(cell: CellResult) -> tuple[tuple[str, str], ...]:
    known = isinstance(cell.cell.variant, Variant)
    return (("Network (C₁, C′, L₁, L₃)", cell.label),) if known else ()


def _cost(cell: CellResult) -> tuple[tuple[str, str], ...]:
    cost = cell.cell.cost
    if cost is None:
        return ()
    size = f"{cost.params / 1e6:.2f} M parameters"
    return (("Cost", f"{size}, {cost.macs / 1e9:.2f} G multiply-adds at {cost.image_size}²"),)


def _test(
    results: Results, winner: CellResult, compared: Comparison
) -> tuple[tuple[str, str], ...]:
    """The test split was not used to choose, so it may be told."""
    by = metric("test_accuracy")
    estimate = winner.estimate(by)
    if estimate is None or compared.metric == by:
        return ()
    return ((f"Test split ({results.data.num_test:,} images)", with_interval(by, estimate, 1)),)


def _progress(results: Results) -> tuple[tuple[str, str], ...]:
    states = [t.state for t in results.trials]
    named = ("complete", "diverged", "failed", "running", "interrupted", "pending")
    counted = [f"{states.count(s)} {s}" for s in named if s in states]
    records = [t.record for t in (*results.trials, *results.others) if t.record]
    seconds = sum(record.seconds for record in records)
    devices = sorted({record.device for record in records if record.device})
    facts = [("Trainings", f"{len(states)}: {listed(counted)}" if states else "none")]
    if seconds:
        facts.append(("Training time", f"{duration(seconds)} on {listed(devices) or 'unknown'}"))
    return tuple(facts)


def _caveats(results: Results, compared: Comparison) -> tuple[str, ...]:
    told = [confounding(results), _resolution(results, compared), _left_out(results, compared)]
    told += [_fates(results), _halved(results), _kept_apart(results)]
    return tuple(filter(None, told))


def _resolution(results: Results, compared: Comparison) -> str:
    """Accuracy moves in steps of one image."""
    images = {"val_accuracy": results.data.num_val, "val_error": results.data.num_val}
    images |= {"test_accuracy": results.data.num_test, "test_error": results.data.num_test}
    number = images.get(compared.metric.name, 0)
    if not number:
        return ""
    return (
        f"The split has {number:,} images: one is {100 / number:.2g} points, and every seed is "
        "measured on the same ones."
    )


def _left_out(results: Results, compared: Comparison) -> str:
    """Cells that have no part in the ranking although they were to be trained."""
    out = [c for c in results.cells if c.cell.variant and c.label not in compared.ranking.means]
    if not out:
        return ""
    states: dict[str, int] = {}
    for cell in out:
        word = _why_out(cell, compared)
        states[word] = states.get(word, 0) + 1
    told = listed([f"{n} {word}" for word, n in states.items()])
    return f"{plural(len(out), 'cell')} not in the ranking: {told}."


def _why_out(cell: CellResult, compared: Comparison) -> str:
    if cell.state != "complete":
        return cell.state
    if any(t.state == "diverged" for t in cell.trials):
        return "diverged on some seeds"
    if compared.estimates[cell.index] is None:
        return f"without a value for {compared.metric.label.lower()}"
    return "without a seed that the others have"


def _fates(results: Results) -> str:
    fates = [c.cell.fate for c in results.cells]
    told = [f"{fates.count(f)} {f}" for f in ("repaired", "infeasible") if f in fates]
    return (
        f"Of {len(fates)} cells {fates.count('exact')} are exactly as asked for, {listed(told)}; "
        "the table says why."
        if told
        else ""
    )


def _halved(results: Results) -> str:
    return f"Halving: {'; '.join(results.notes)}." if results.notes else ""


def _kept_apart(results: Results) -> str:
    if not results.others:
        return ""
    number = plural(len(results.others), "training")
    return f"{number} in this folder with another recipe or data: listed, not compared."
