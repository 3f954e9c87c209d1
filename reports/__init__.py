"""Pictures, tables and the page of a run. Each reads `archsearch.results` and nothing else."""
