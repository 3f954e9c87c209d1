"""Families without a closed form, one file each as a user writes it, for the planning benchmark."""
