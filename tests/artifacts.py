"""Find an artifact of a bundle."""

from cloformer_deploy.bundle.bundle import Bundle
from cloformer_deploy.bundle.manifest import Artifact


def artifact_of(bundle: Bundle, format_name: str, precision: str) -> Artifact:
    """Return the one artifact of a format and a precision."""
    (found,) = (item for item in bundle.manifest.artifacts if (item.format, item.precision) == (format_name, precision))
    return found
