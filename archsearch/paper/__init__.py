"""What the paper prints, counted again: sizes, Table C, the exponent, weight sharing."""
