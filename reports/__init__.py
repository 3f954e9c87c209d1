"""Figures, tables and the page of a run, one card a question, from `archsearch.results` alone."""
