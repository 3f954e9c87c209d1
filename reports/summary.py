"""The summary of a run as text: which network is best, how certain that is, and what it costs."""

from collections import Counter
from dataclasses import dataclass

from archsearch.core.metrics import GENERAL
from archsearch.reports import phrases
from archsearch.reports.context import Context
from archsearch.reports.downstream import transfer_text
from archsearch.reports.family_results import families_text
from archsearch.reports.ladders import left_out
from archsearch.reports.pilots import pilots_text
from archsearch.reports.winner import Winner, num_images
from archsearch.results import CellResult

Fact = tuple[str, str]
"""Name and value."""


@dataclass(frozen=True)
class Summary:
    """``headline`` answers the study's question, and ``confidence`` says how certain that is.

    ``caveats`` are further facts that affect the interpretation.
    """

    headline: str
    confidence: str
    facts: tuple[Fact, ...]
    caveats: tuple[str, ...]


def summarize(context: Context) -> Summary:
    """Return the summary of a run."""
    best, facts = context.ranking.best, _progress(context)
    notes = (
        phrases.size_confounding, _resolution, _not_ranked, _fates, _halving, _other_trainings,
        _left_out_of_law,
    )  # fmt: skip
    caveats = tuple(filter(None, (note(context) for note in notes)))
    if best is None:
        return Summary(_no_result(context), "", (*facts,), caveats)
    winner = Winner.of(context, best)
    facts = _winner_facts(context, winner) + facts
    confidence = phrases.paragraph(
        transfer_text(context), families_text(context), _confidence(context), winner.bias_text
    )
    return Summary(_headline(context, winner), confidence, (*facts,), caveats)


def _no_result(context: Context) -> str:
    trials, label = context.results.trials, context.metric.noun
    ended = sum(t.record is not None for t in trials)
    if not ended:
        return "No training has finished yet."
    if not any(t.state == "complete" for t in trials):
        return f"None of the {phrases.plural(ended, 'finished training')} has a result."
    if not context.comparison.has_values:
        return f"No training has a value for {label}."
    return f"No network can be ranked by {label}."


def _headline(context: Context, winner: Winner) -> str:
    ranking, label = context.ranking, context.metric.noun
    name, value = winner.cell.label, winner.value_text
    end = "highest" if context.metric.higher_is_better else "lowest"
    if not ranking.can_rank:
        return f"The cells cannot be ranked. {name} has the {end} {label}, {value}."
    if len(ranking.tied) == 1:
        return f"{name} is best, with {value} {label}."
    if len(ranking.tied) == len(ranking.means):
        return f"All networks are tied. {name} has the {end} mean {label}, {value}."
    return f"{name} is tied for best, with the {end} mean {label}, {value}."


def _confidence(context: Context) -> str:
    ranking = context.ranking
    if context.metric.known_before_training:
        return f"{context.metric.label} are counted, not measured, so they have no noise."
    if not ranking.can_rank:
        return phrases.single_seed_warning(context) or phrases.sentence(ranking.reason)
    networks, tied = len(ranking.means), len(ranking.tied)
    level = f"multiple comparisons with the best, {phrases.percent(ranking.level)} confidence"
    if tied == 1:
        return f"Each of the other {networks - 1} networks is significantly worse ({level})."
    if tied == networks:
        text = f"None of the {networks} networks is significantly worse than the best ({level})."
    else:
        others, worse = tied - 1, networks - tied
        text = (
            f"{phrases.plural(others, 'other network')} {phrases.are(others)} statistically tied "
            f"with it; {worse} {phrases.are(worse)} significantly worse ({level})."
        )
    return phrases.paragraph(text, _cheapest(context))


def _cheapest(context: Context) -> str:
    """Return which of the tied networks has the fewest multiply-adds."""
    macs, tied = GENERAL["macs"], context.ranking.tied
    sizes = [(context.results.network(label).cost_value(macs), label) for label in tied]
    counted = [(size, label) for size, label in sizes if size is not None]
    if len(counted) < 2:
        return ""
    size, label = min(counted)
    return f"Of the tied networks, {label} has the fewest multiply-adds, {macs.text(size)} G."


def _winner_facts(context: Context, winner: Winner) -> list[Fact]:
    facts, cell = list[Fact](), winner.cell.cell
    variant, cost = cell.variant, cell.cost
    if variant is not None and variant.numbers:
        symbols = ", ".join(map(context.symbol, variant.number_names()))
        facts.append((f"Network ({symbols})", winner.cell.label))
    if cost is not None:
        macs = f"{cost.macs / 1e9:.2f} G multiply-adds at {cost.image_size}²"
        facts.append(("Cost", f"{cost.params / 1e6:.2f} M parameters, {macs}"))
    if winner.test_text:
        facts.append((f"Test split ({context.results.data.num_test:,} images)", winner.test_text))
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
    if pilots := pilots_text(results):
        facts.append(("Before them", pilots))
    return facts


def _resolution(context: Context) -> str:
    """Return how much the images of the split limit a share of them."""
    number = num_images(context, context.metric)
    if not number:
        return ""
    return (
        f"The split has {number:,} images: one image is {100 / number:.2g} points. The ± of the "
        "best network includes the sampling of the images; that of cells and differences does "
        "not, since every network and seed is measured on the same images."
    )


def _not_ranked(context: Context) -> str:
    """Return how many planned cells with a network are not in the ranking, and why."""
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
    if not context.comparison.has_value(cell):
        return f"without a value for {context.metric.noun}"
    return "without a seed in common with the others"


def _fates(context: Context) -> str:
    fates = Counter(c.cell.fate for c in context.cells)
    counts = phrases.listed([f"{fates[f]} {f}" for f in ("repaired", "infeasible") if fates[f]])
    text = f"Cells: {fates['exact']} exactly as requested, {counts}; the table gives the reasons."
    return text if counts else ""


def _halving(context: Context) -> str:
    notes = "; ".join(context.results.notes)
    return f"Halving: {notes}." if notes else ""


def _other_trainings(context: Context) -> str:
    number = len(context.results.others)
    text = f"in this folder with {phrases.outside_text(context)}: listed, but not compared"
    return f"{phrases.plural(number, 'training')} {text}." if number else ""


def _left_out_of_law(context: Context) -> str:
    texts = "; ".join(left_out([context]))
    return f"Left out of the scaling law: {texts}." if texts else ""
