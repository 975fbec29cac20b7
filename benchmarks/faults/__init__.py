"""Faults planted in real exported files, to see what a check catches."""
