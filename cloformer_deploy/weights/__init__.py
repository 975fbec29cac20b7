"""Weights: safe reading of weights files, identification of their network, and the bundled weights."""
