"""Files with other choices: each is exported into a bundle of its own in the work folder, and kept until the end."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from cloformer_deploy.backends.target import ArtifactKey
from cloformer_deploy.backends.tuning import Tuning
from cloformer_deploy.bundle import Bundle
from cloformer_deploy.errors import BundleError, ToolError
from cloformer_deploy.exporting.pipeline import export
from cloformer_deploy.exporting.recipe_file import RecipeFile, write_recipe
from cloformer_deploy.exporting.request import ExportRequest
from cloformer_deploy.progress import Progress, Silent
from cloformer_deploy.system.cores import usable_cores


class Candidates:
    """Makes files.

    Args:
        asked: export of the one artifact with its target's own choices.
        key: kind of the artifact.
        weights_sha256: of the weights file.
        work: folder for bundles.
        few: calibration set of a few images, for files whose speed alone is wanted; None where none is needed.
        progress: receives each step.
    """

    def __init__(
        self,
        asked: ExportRequest,
        key: ArtifactKey,
        weights_sha256: str,
        work: Path,
        few: Path | None,
        progress: Progress,
    ) -> None:
        self._asked, self._key, self._weights_sha256 = asked, key, weights_sha256
        self._work, self._few, self._progress = work, few, progress

    def make(self, tunings: Sequence[Tuning]) -> Mapping[Tuning, Bundle | str]:
        """Export files for measuring their speed, side by side; for those that cannot be made, return the reason."""
        wanted = list(dict.fromkeys(tunings))
        self._progress.step(f"Making {len(wanted)} files")
        done: dict[Tuning, Bundle | str] = {}
        with ThreadPoolExecutor(usable_cores()) as pool:
            for tuning, found in zip(wanted, pool.map(self._made, wanted), strict=True):
                done[tuning] = found
                self._progress.advance(len(done), len(wanted))
        return done

    def whole(self, tuning: Tuning) -> Bundle:
        """Export a file as a user would, with ranges from the whole calibration set.

        Raises:
            ToolError: it cannot be made.
        """
        return self._bundle(tuning, self._asked.calibration, "whole", self._progress)

    def _made(self, tuning: Tuning) -> Bundle | str:
        try:
            return self._bundle(tuning, self._few, "few", Silent())
        except ToolError as error:
            return error.message
        except RuntimeError as error:  # a bug of this tool in one file, which says nothing about the others
            return f"a bug, please report it: {(str(error).strip() or repr(error)).splitlines()[-1]}"

    def _bundle(self, tuning: Tuning, calibration: Path | None, suffix: str, progress: Progress) -> Bundle:
        name = hashlib.sha256(tuning.model_dump_json().encode()).hexdigest()[:16]
        folder = self._work / f"{name}-{suffix}"
        kept = _kept(folder)
        if kept is not None:
            return kept
        recipe = self._work / f"{name}.json"
        write_recipe(
            recipe,
            RecipeFile(
                weights_sha256=self._weights_sha256,
                format=self._key.format,
                precision=self._key.precision,
                target=self._key.target,
                tuning=tuning,
            ),
        )
        request = replace(self._asked, recipe=recipe, calibration=calibration, output=folder, overwrite=True)
        return export(request, progress).bundle


def _kept(folder: Path) -> Bundle | None:
    """Return a bundle that an earlier run has made whole."""
    try:
        bundle = Bundle.open(folder)
        bundle.verify()
    except BundleError:
        return None
    return bundle
