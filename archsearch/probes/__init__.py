"""Probes of a trained network: receptive fields, sampling points, robustness, speed."""
