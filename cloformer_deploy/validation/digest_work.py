"""The work of identifying images at the input's size, to find those of a calibration set."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cloformer_deploy.data import Dataset, Preprocessing, image_digest
from cloformer_deploy.tasks import Outputs
from cloformer_deploy.validation.cache import key
from cloformer_deploy.validation.workers.base import Lot, Pixels
from cloformer_deploy.validation.workers.environment import of_images


class DigestWork:
    """See `Work`: its one subject is `image_digest`."""

    keys: Sequence[bytes] = (key("digest"),)
    files = None

    def __init__(self, images: Dataset, preprocessing: Preprocessing) -> None:
        self.images, self.preprocessing = images, preprocessing

    def at(self, root: Path) -> "DigestWork":
        """See `Work.at`: there are no files."""
        return self

    def environment(self) -> Mapping[str, str]:
        """See `Work.environment`."""
        return of_images()

    def open(self, subjects: Sequence[int]) -> None:
        """See `Work.open`: nothing is loaded."""

    def prepare(self, pixels: Pixels) -> Outputs:
        """See `Work.prepare`: nothing is needed."""
        return {}

    def run(self, subject: int, lot: Lot) -> Sequence[bytes]:
        """See `Work.run`."""
        return [image_digest(image).encode() for image in lot.pixels]
