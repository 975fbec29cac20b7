"""Options of Core ML packages."""

from pydantic import field_validator

from cloformer_deploy.backends.coreml.targets import DEFAULT_IOS, IOS_TARGETS
from cloformer_deploy.backends.options import Options


class CoreMLOptions(Options):
    """Options of a Core ML package.

    Attributes:
        ios: deployment target, a version of iOS (macOS 12 to 26 correspond to 15 to 26).
    """

    ios: int = DEFAULT_IOS

    @field_validator("ios")
    @classmethod
    def _known(cls, ios: int) -> int:
        if ios not in IOS_TARGETS:
            raise ValueError(f"there is no deployment target iOS {ios}; choose {', '.join(map(str, IOS_TARGETS))}")
        return ios
