"""The results of a run, cell by cell: every report reads these and nothing else.

Infeasible, failed, diverged and pending cells stay in the results, and a missing number is None,
never 0. Reading needs no torch.
"""

from archsearch.results.cells import LEVEL, UNFINISHED, CellResult, State, TrialResult
from archsearch.results.comparison import Comparison
from archsearch.results.loading import assemble, load
from archsearch.results.run_results import Results

__all__ = [
    "LEVEL",
    "UNFINISHED",
    "CellResult",
    "Comparison",
    "Results",
    "State",
    "TrialResult",
    "assemble",
    "load",
]
