"""The summary of a run in plain words: which network is best, how sure that is, what it costs."""

from collections import Counter
from dataclasses import dataclass

from archsearch.core.metrics import GENERAL
from archsearch.reports import phrases
from archsearch.reports.columns import result_with_unit
from archsearch.reports.context import Context
from archsearch.results import CellResult

Fact = tuple[str, str]
"""Name and value."""


@dataclass(frozen=True)
class Summary:
    """``headline`` answers the question, ``sure`` says how far to trust it, ``caveats`` what else
    must be known."""

    headline: str
    sure: str
    facts: tuple[Fact, ...]
    caveats: tuple[str, ...]


def summarize(context: Context) -> Summary:
    """What a run says about its question."""
    best, facts, caveats = context.ranking.best, _progress(context), _caveats(context)
    if best is None:
        return Summary(_no_result(context), "", (*facts,), caveats)
    winner = context.results.network(best)
    facts = _winner_facts(context, winner) + facts
    return Summary(_headline(context, winner), _confidence(context), (*facts,), caveats)


def _no_result(context: Context) -> str:
    trials, label = context.results.trials, context.metric.label.lower()
    ended = sum(t.record is not None for t in trials)
    if not ended:
        return "No training has finished yet."
    if not any(t.state == "complete" for t in trials):
        return f"None of the {phrases.plural(ended, 'finished training')} gave a result."
    if not any(e is not None for e in context.comparison.estimates):
        return f"No training has a value for {label}."
    return f"No network can be compared by {label}."


def _headline(context: Context, winner: CellResult) -> str:
    ranking, name, label = context.ranking, winner.label, context.metric.label.lower()
    value = result_with_unit(winner, context.comparison)
    end = "highest" if context.metric.higher_is_better else "lowest"
    if not ranking.can_rank:
        return f"No cell can be called best. {name} shows the {end} {label}, {value}."
    if len(ranking.tied) == 1:
        return f"{name} is best, with {value} {label}."
    if len(ranking.tied) == len(ranking.means):
        return f"No network stands out. {name} has the {end} mean {label}, {value}."
    return f"{name} leads with {value} {label}, but not alone."


def _confidence(context: Context) -> str:
    ranking = context.ranking
    if context.metric.counted:
        return "Counted, not measured: there is no noise in it."
    if not ranking.can_rank:
        return phrases.single_seed_warning(context) or phrases.sentence(ranking.reason)
    networks, tied = len(ranking.means), len(ranking.tied)
    how = f"at {phrases.percent(ranking.level)} confidence over all {networks} networks at once"
    if tied == 1:
        return f"Each of the other {networks - 1} networks is shown to be worse, {how}."
    if tied == networks:
        text = f"None of the {networks} networks is shown to be worse than the best, {how}."
    else:
        worse = f"{networks - tied} {'is' if networks - tied == 1 else 'are'} shown to be worse"
        text = (
            f"{phrases.plural(tied - 1, 'other network')} cannot be told from it; {worse}, {how}."
        )
    return f"{text} {_cheapest(context)}"


def _cheapest(context: Context) -> str:
    """Among those that tie, cost decides."""
    macs, tied = GENERAL["macs"], context.ranking.tied
    sizes = [(context.results.network(label).counted(macs), label) for label in tied]
    counted = [(size, label) for size, label in sizes if size is not None]
    if len(counted) < 2:
        return ""
    size, label = min(counted)
    itself = " itself" if label == context.ranking.best else ""
    return f"The cheapest of them is {label}{itself}, {macs.text(size)} G multiply-adds."


def _winner_facts(context: Context, winner: CellResult) -> list[Fact]:
    facts, cost, data = [], winner.cell.cost, context.results.data
    variant, task = winner.cell.variant, context.results.study.task
    if variant is not None and variant.numbers:
        signs = ", ".join(map(context.symbol, variant.number_names()))
        facts.append((f"Network ({signs})", winner.label))
    if cost is not None:
        macs = f"{cost.macs / 1e9:.2f} G multiply-adds at {cost.image_size}²"
        facts.append(("Cost", f"{cost.params / 1e6:.2f} M parameters, {macs}"))
    # The test split was not used to choose, so its result may be printed.
    test = task.metric(task.ranking_metric.replace("val_", "test_"))
    interval = winner.estimate(test)
    if interval is not None and context.metric != test:
        images = f"Test split ({data.num_test:,} images)"
        facts.append((images, phrases.interval_with_unit(test, interval, 1)))
    return facts


def _progress(context: Context) -> list[Fact]:
    results = context.results
    states = Counter[str](t.state for t in results.trials)
    order = ("complete", "diverged", "failed", "running", "interrupted", "pending")
    counts = phrases.listed([f"{states[state]} {state}" for state in order if states[state]])
    records = [t.record for t in (*results.trials, *results.others) if t.record]
    seconds = sum(record.seconds for record in records)
    devices = phrases.listed(sorted({record.device for record in records if record.device}))
    facts = [("Trainings", f"{len(results.trials)}: {counts}" if results.trials else "none")]
    if seconds:
        facts.append(("Training time", f"{phrases.duration(seconds)} on {devices or 'unknown'}"))
    return facts


def _caveats(context: Context) -> tuple[str, ...]:
    kinds = phrases.size_confounding, _resolution, _not_ranked, _fates, _halving, _other_trainings
    return tuple(caveat for kind in kinds if (caveat := kind(context)))


def _resolution(context: Context) -> str:
    """A share of the images moves in steps of one image."""
    split = context.metric.name.partition("_")[0]
    images = {"val": context.results.data.num_val, "test": context.results.data.num_test}
    number = images.get(split, 0)
    if not number or context.metric.unit != "%":
        return ""
    return (
        f"The split has {number:,} images: one is {100 / number:.2g} points, and every seed is "
        "measured on the same ones."
    )


def _not_ranked(context: Context) -> str:
    """Cells that have no part in the ranking although they were to be trained."""
    means = context.ranking.means
    cells = [c for c in context.cells if c.cell.variant and c.label not in means]
    reasons = Counter(_why_not_ranked(context, cell) for cell in cells)
    counts = phrases.listed([f"{n} {reason}" for reason, n in reasons.items()])
    return f"{phrases.plural(len(cells), 'cell')} not in the ranking: {counts}." if cells else ""


def _why_not_ranked(context: Context, cell: CellResult) -> str:
    if cell.state != "complete":
        return cell.state
    if any(t.state == "diverged" for t in cell.trials):
        return "diverged on some seeds"
    if context.comparison.estimates[cell.index] is None:
        return f"without a value for {context.metric.label.lower()}"
    return "without a seed that the others have"


def _fates(context: Context) -> str:
    fates = Counter(c.cell.fate for c in context.cells)
    counts = phrases.listed([f"{fates[f]} {f}" for f in ("repaired", "infeasible") if fates[f]])
    exact = f"Of {len(context.cells)} cells {fates['exact']} are exactly as asked for"
    return f"{exact}, {counts}; the table says why." if counts else ""


def _halving(context: Context) -> str:
    notes = "; ".join(context.results.notes)
    return f"Halving: {notes}." if notes else ""


def _other_trainings(context: Context) -> str:
    number = len(context.results.others)
    where = "in this folder with another recipe or data: listed, not compared"
    return f"{phrases.plural(number, 'training')} {where}." if number else ""
