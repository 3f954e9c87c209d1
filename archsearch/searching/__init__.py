"""Plans that depend on records: Optuna's search, halving, more seeds for tied cells."""
