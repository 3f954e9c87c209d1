"""Measurements that are run by hand, each with ``python -m``; nothing imports them."""
