"""The paper's printed figures, recounted: sizes, Table C, the exponent, weight sharing."""
