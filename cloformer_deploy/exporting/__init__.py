"""Exporting weights to a bundle of artifacts."""
