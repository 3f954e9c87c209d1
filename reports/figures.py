"""Every picture of a run but the map, with its caption and how to read it."""

from pathlib import Path

from matplotlib.figure import Figure

from archsearch.core.metrics import METRICS
from archsearch.reports import curves, gradients, importances, scaling_law, style
from archsearch.results import Results

HOW_TO_READ = {
    "law": "Line: the fitted power law. Bars: all seeds of a size.",
    "ladder": "One point a network; beside it the scaling factors and the result.",
    "learning": "Mean over a network's own seeds, by epoch. Faint: all other networks. A cross: "
    "diverged there.",
    "gradients": "Line: the mean over an epoch's steps and over seeds; thin: the largest of "
    "any step. Dotted: where it is clipped. A cross: some seeds did not finish.",
    "tradeoff-params": "Diamonds: no network is better at less. Bars: 95% intervals over seeds. "
    "Open circles lost a seed.",
    "tradeoff-macs": "The same against the multiply-adds of one image.",
    "edf": "The share of networks at or below a value; further left is better.",
    "importances": "fANOVA. On a budget L₃ follows from the others: a share says which number "
    "goes with the result, not which causes it. Drawn only where one does beyond chance.",
}


def figures(results: Results, metric: str | None = None) -> dict[str, tuple[str, Figure]]:
    """Name -> (caption, figure) of all that this run can show. Call within `style.styled`."""
    label = results.compare(metric).metric.label
    made: dict[str, tuple[str, Figure | None]] = {
        "law": ("Scaling law", scaling_law.law_figure([results])),
        "ladder": ("Depth and width along the ladder", curves.ladder_figure(results, metric)),
        "learning": ("Learning curves", curves.learning_figure(results, metric)),
        "gradients": ("Gradient norms", gradients.gradient_figure(results)),
    }
    for cost in (METRICS["params"], METRICS["macs"]):
        caption = f"{label} against {cost.label.lower()}"
        made[f"tradeoff-{cost.name}"] = (caption, curves.tradeoff_figure(results, cost, metric))
    kind = "Loss" if results.compare(metric).metric.name.endswith("_loss") else "Error"
    made["edf"] = (f"{kind} distribution over the space", curves.edf_figure(results, metric))
    bars = importances.importance_figure(results, metric)
    made["importances"] = ("What goes with the result", bars)
    return {name: (caption, fig) for name, (caption, fig) in made.items() if fig is not None}


def render(results: Results, out_dir: Path, metric: str | None = None) -> list[Path]:
    """Write every picture as PNG and SVG into ``out_dir``."""
    with style.styled():
        made = figures(results, metric)
        return [p for name, (_, fig) in made.items() for p in style.save(fig, out_dir, name)]
