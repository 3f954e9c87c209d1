"""Plans that depend on records: Optuna's search, halving, and more seeds where the best may be."""
