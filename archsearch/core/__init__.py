"""Values that everything else is built of: budget, cost, recipe, study, trial, record, metric."""
