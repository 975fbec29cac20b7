"""The weights that ship with the package, found by name; imports no torch, so that light commands stay light."""

from pathlib import Path

from cloformer_deploy.errors import CheckpointError
from cloformer_deploy.networks import all_variants
from cloformer_deploy.system.packages import shipped_folder

DEFAULT = "xxs-rendered"
"""The bundled weights that are meant when none are named."""


def bundled_checkpoints() -> dict[str, Path]:
    """The bundled weights files by name, sorted; a name is `{variant}-{data set}`."""
    return {path.stem: path for path in sorted(shipped_folder("models").glob("*.safetensors"))}


def resolve_weights(weights: str | None = None, variant: str | None = None) -> Path:
    """Find the weights file that a request means.

    Args:
        weights: the name of bundled weights, or a file; a name goes before a file of the same name
            in the working directory, which `./NAME` still reaches.
        variant: where `weights` is None, the variant that bundled weights are wanted for.

    Returns:
        The file. Whether it holds usable weights is for `load_checkpoint` to find out.

    Raises:
        CheckpointError: there are no such weights.
    """
    bundled = bundled_checkpoints()
    names = ", ".join(bundled) or "none"
    if weights is not None:
        path = bundled.get(weights, Path(weights))
        # An empty text is the path of the working directory, which is never meant.
        if weights and path.exists():
            return path
        raise CheckpointError(
            f"{weights!r} is neither a file nor bundled weights",
            f"pass a weights file, or the name of bundled weights (there are: {names})",
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
            f"no weights {wanted} are bundled (there are: {names})", "pass a weights file with --weights FILE"
        )
    return found[0]
