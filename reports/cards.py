"""All cards of a report, in the order of the page: a new card is one more line here."""

from archsearch.reports.card import Card, CrossCard
from archsearch.reports.data_scale import DATA_SCALE
from archsearch.reports.downstream import DOWNSTREAM
from archsearch.reports.effects import EFFECTS
from archsearch.reports.error_distribution import EDF
from archsearch.reports.families import FAMILIES
from archsearch.reports.gradients import GRADIENTS
from archsearch.reports.heatmap import HEATMAP
from archsearch.reports.importances import IMPORTANCES
from archsearch.reports.ladder_shape import LADDER
from archsearch.reports.latencies import LATENCY, LATENCY_MACS
from archsearch.reports.learning import LEARNING
from archsearch.reports.main_effects import MAIN_EFFECTS
from archsearch.reports.multi_run import RUNS, SHARED_NETWORKS
from archsearch.reports.operators import OPERATORS
from archsearch.reports.paper import FAMILY, PAPER, RECIPE, TABLE_C
from archsearch.reports.pilots import LIMITS_OF_ONE_RECIPE, PILOTS
from archsearch.reports.predictions import PREDICTIONS
from archsearch.reports.results_table import OTHERS, RESULTS
from archsearch.reports.scaling_law import LAW, LAW_OF_RUNS
from archsearch.reports.trade_off import PARETO, TRADEOFF_MACS, TRADEOFF_PARAMS

CARDS: tuple[Card | CrossCard, ...] = (
    HEATMAP,
    DOWNSTREAM,
    FAMILIES,
    PILOTS,
    LIMITS_OF_ONE_RECIPE,
    OPERATORS,
    PAPER,
    TABLE_C,
    LATENCY,
    LATENCY_MACS,
    LAW,
    LADDER,
    LEARNING,
    PREDICTIONS,
    GRADIENTS,
    TRADEOFF_PARAMS,
    TRADEOFF_MACS,
    EDF,
    IMPORTANCES,
    MAIN_EFFECTS,
    EFFECTS,
    RESULTS,
    PARETO,
    OTHERS,
    RECIPE,
    FAMILY,
    DATA_SCALE,
    RUNS,
    LAW_OF_RUNS,
    SHARED_NETWORKS,
)
