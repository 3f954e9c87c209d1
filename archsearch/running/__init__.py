"""Bringing trials to their records: the driver, the runners, quotes and progress."""
