"""The design space: what a variant costs, which cells a budget has, how an origin grows."""
