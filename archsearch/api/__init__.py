"""What `import archsearch` offers: studies, trainings and runs as Python calls; `cli` is on it."""
