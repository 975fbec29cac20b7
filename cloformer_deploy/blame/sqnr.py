"""Energies of signals and errors, and their ratio."""

import math

from cloformer_deploy.validation.drift import SQNR_CEILING_DB


def sqnr_db(signal: float, noise: float) -> float:
    """The ratio of two energies, dB; within the ceiling that equal numbers have, and below it by as much."""
    if not math.isfinite(noise) or not math.isfinite(signal):
        return -SQNR_CEILING_DB
    if noise == 0:
        return SQNR_CEILING_DB
    if signal == 0:
        return -SQNR_CEILING_DB
    return max(min(10 * math.log10(signal / noise), SQNR_CEILING_DB), -SQNR_CEILING_DB)
