"""Network families: what a variant is, what it costs, and how its network is built."""
