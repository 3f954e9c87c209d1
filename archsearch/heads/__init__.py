"""Heads for detection and segmentation on any backbone that gives four maps."""
