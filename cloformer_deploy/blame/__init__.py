"""`blame`: find the layers of a file that add its error, and propose a fix."""

from cloformer_deploy.blame.blame import Blame, Distance, blame
from cloformer_deploy.blame.cross_check import CrossCheck, Witnessed, cross_check
from cloformer_deploy.blame.fix import Fix, Trial, propose
from cloformer_deploy.blame.investigation import Investigation, check_outputs, investigate, locate
from cloformer_deploy.blame.ranking import Layer
from cloformer_deploy.blame.reexport import Reexported, reexport

__all__ = [
    "Blame",
    "CrossCheck",
    "Distance",
    "Fix",
    "Investigation",
    "Layer",
    "Reexported",
    "Trial",
    "Witnessed",
    "blame",
    "check_outputs",
    "cross_check",
    "investigate",
    "locate",
    "propose",
    "reexport",
]
