"""Quantization after training: ranges of tensors over a calibration set, and plans of what is computed in integers.

`recipes` (data) and `search` (an algorithm) import no torch; everything else does.
"""
