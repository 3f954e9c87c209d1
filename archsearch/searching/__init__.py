"""Plans that depend on records: Optuna's search, halving, and more seeds for tied cells."""
