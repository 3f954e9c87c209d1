"""Intervals, ties with the best, who gets another seed, and the scaling law."""
