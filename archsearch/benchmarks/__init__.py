"""Benchmarks to run by hand with ``python -m``; nothing imports them."""
