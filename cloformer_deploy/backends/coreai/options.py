"""Options of Core AI assets."""

from typing import Literal

from cloformer_deploy.backends.options import Options


class CoreAIOptions(Options):
    """Options of a Core AI asset.

    Attributes:
        minimum_os: deployment target: the version of iOS, macOS and the other systems, of which there is one.
    """

    minimum_os: Literal[27] = 27
