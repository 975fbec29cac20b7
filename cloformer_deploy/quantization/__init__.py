"""INT8 after training: what a calibration set says of each tensor, and what becomes an integer of it."""

from cloformer_deploy.quantization.observers import Histogram, Range
from cloformer_deploy.quantization.plan import SIGMOID_RANGE, Plan, weight_scales
from cloformer_deploy.quantization.preparation import Batches, Observed, Prepared, observed, prepared
from cloformer_deploy.quantization.recipes import INT8, RECIPES, Recipe
from cloformer_deploy.quantization.simulation import Simulation
from cloformer_deploy.quantization.twins import fingerprints, identify

__all__ = [
    "INT8",
    "RECIPES",
    "SIGMOID_RANGE",
    "Batches",
    "Histogram",
    "Observed",
    "Plan",
    "Prepared",
    "Range",
    "Recipe",
    "Simulation",
    "fingerprints",
    "identify",
    "observed",
    "prepared",
    "weight_scales",
]
