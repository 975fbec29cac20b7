"""`blame`: where in a file the error enters, found layer by layer, and what to do about it."""

from cloformer_deploy.validation.blame.blaming import Blame, Distance, blame
from cloformer_deploy.validation.blame.fix import Fix, Trial, propose
from cloformer_deploy.validation.blame.fresh import Fresh, make_fresh
from cloformer_deploy.validation.blame.investigation import Investigation, investigate, locate, refuse_outputs
from cloformer_deploy.validation.blame.ranking import Layer

__all__ = [
    "Blame",
    "Distance",
    "Fix",
    "Fresh",
    "Investigation",
    "Layer",
    "Trial",
    "blame",
    "investigate",
    "locate",
    "make_fresh",
    "propose",
    "refuse_outputs",
]
