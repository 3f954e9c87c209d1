"""Figures, tables and the page of a run, one file per card; they read only `archsearch.results`."""
