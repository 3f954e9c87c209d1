"""Statistics: intervals, ranking with ties, adaptive seeds and the scaling law."""
