"""`blame`: where in a file the error enters, found layer by layer, and what to do about it."""

from cloformer_deploy.blame.blame import Blame, Distance, blame
from cloformer_deploy.blame.fix import Fix, Trial, propose
from cloformer_deploy.blame.investigation import Investigation, check_outputs, investigate, locate
from cloformer_deploy.blame.ranking import Layer
from cloformer_deploy.blame.reexport import Reexported, reexport

__all__ = [
    "Blame",
    "Distance",
    "Fix",
    "Investigation",
    "Layer",
    "Reexported",
    "Trial",
    "blame",
    "check_outputs",
    "investigate",
    "locate",
    "propose",
    "reexport",
]
