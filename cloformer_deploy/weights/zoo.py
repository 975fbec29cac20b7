"""The weights that are distributed with this package, by name. Imports no torch, so that finding them is fast."""

from pathlib import Path

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks import all_variants
from cloformer_deploy.system.packages import shipped_folder

DEFAULT = "xxs-rendered"
"""Name of the bundled weights that are used by default."""


def bundled_checkpoints() -> dict[str, Path]:
    """Return the bundled weights files by name, sorted; a name is `{variant}-{data set}`."""
    return {path.stem: path for path in sorted(shipped_folder("models").glob("*.safetensors"))}


def resolve_weights(weights: str | None = None, variant: str | None = None) -> Path:
    """Return the path of a weights file, without reading it.

    Args:
        weights: the name of bundled weights, or a path; None selects bundled weights. A name has priority over a file
            of the same name in the working directory, which is reached as `./NAME`.
        variant: if `weights` is None, the variant of the bundled weights; None selects `DEFAULT`.

    Raises:
        CheckpointError: the file, the bundled weights or the variant does not exist.
    """
    bundled = bundled_checkpoints()
    names = ", ".join(bundled) or "none"
    if weights is not None:
        path = bundled.get(weights, Path(weights))
        # Path("") is the working directory, which is no weights file.
        if weights and path.exists():
            return path
        raise CheckpointError(
            f"'{weights}' is neither a file nor bundled weights",
            f"pass a weights file, or the name of bundled weights ({names})",
        )
    if variant is not None and variant not in all_variants():
        raise CheckpointError(f"there is no variant {variant!r}", f"choose one of {', '.join(all_variants())}")
    if variant is None:
        found = [path for name, path in bundled.items() if name == DEFAULT]
        wanted = f"named {DEFAULT!r}"
    else:
        found = [path for name, path in bundled.items() if name.startswith(f"{variant}-")]
        found.sort(key=lambda path: path.stem != DEFAULT)
        wanted = f"for variant {variant!r}"
    if not found:
        raise CheckpointError(
            f"no weights {wanted} are bundled (bundled: {names})", "give a weights file with --weights FILE"
        )
    return found[0]
