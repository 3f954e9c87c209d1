"""Basic values and the two seams: budget, cost, cell, recipe, plan, metric, family, task."""
