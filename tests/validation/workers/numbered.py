"""Images without files, and work on them that fails in the ways that workers do; both are sent to real Ray workers."""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data import Batch, Dataset, Preprocessing
from cloformer_deploy.data.batches import batches_of
from cloformer_deploy.errors import DataError, MissingPartError, ToolError
from cloformer_deploy.tasks import Outputs
from cloformer_deploy.validation.workers.base import Lot, Pixels, Work

BROKEN, FAILING = 40, 41
"""Images that cannot be loaded, and that the work fails on."""


@dataclass(frozen=True)
class Numbered:
    """Images whose pixels are their number; see `Dataset`.

    Attributes:
        numbers: of each image.
        owner: the only process that sees them as they are, or None.
    """

    numbers: tuple[int, ...]
    owner: int | None = None
    name: str = "numbers"
    warnings: tuple[str, ...] = ()
    labels: None = None
    has_targets: bool = False

    def __len__(self) -> int:
        return len(self.numbers)

    def identity(self, index: int) -> str:
        return f"{self.numbers[index]} {self.owner is None or self.owner == os.getpid()}"

    def load(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        assert self.owner in (None, os.getpid())
        if self.numbers[index] == BROKEN:
            raise DataError("image 40 is broken", "mend it")
        return np.full(preprocessing.shape, self.numbers[index], np.uint8)

    def truth(self, index: int, preprocessing: Preprocessing) -> None:
        pass

    def select(self, indices: Sequence[int]) -> "Numbered":
        return Numbered(tuple(self.numbers[index] for index in indices), self.owner)

    def limited(self, max_images: int | None) -> "Numbered":
        return self.select(range(len(self))[:max_images])

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        return batches_of(self, preprocessing, size)


class Doubled:
    """Work whose first result is an image's number, and whose second is twice that.

    Args:
        images: to be worked on.
        lost: file that the first worker to find it missing makes, before it kills itself; None kills none.
        deadly: every worker kills itself.
        asker: process in which the environment is another than in all others.
        lacking: process beside which there is a part missing.
    """

    files = None
    preprocessing = Preprocessing.published(32, 32)
    keys: Sequence[bytes] = (b"once", b"twice")

    def __init__(
        self,
        images: Numbered,
        lost: Path | None = None,
        *,
        deadly: bool = False,
        asker: int | None = None,
        lacking: int | None = None,
    ) -> None:
        self.images: Dataset = images
        self._lost, self._deadly, self._asker, self._lacking = lost, deadly, asker, lacking

    def at(self, root: Path) -> Work:
        raise AssertionError("there are no files")

    def environment(self) -> Mapping[str, str]:
        if self._lacking not in (None, os.getpid()):
            raise MissingPartError("half of it is not installed", "pip install half")
        return {"half": "1.5" if self._asker in (None, os.getpid()) else "1.6", "pillow": "7"}

    def open(self, subjects: Sequence[int]) -> None:
        pass

    def prepare(self, pixels: Pixels) -> Outputs:
        if self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._lost is not None and not self._lost.exists():
            self._lost.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01 * int(pixels.max() % 3))  # tasks do not end in order
        return {"number": pixels[:, 0, 0, 0].astype(np.float32)}

    def run(self, subject: int, lot: Lot) -> Sequence[bytes]:
        if FAILING in lot.pixels[:, 0, 0, 0]:
            raise ToolError("image 41 fails", "leave it out")
        np.testing.assert_array_equal(lot.prepared["number"], lot.pixels[:, 0, 0, 0])
        return [str(int(number) * (subject + 1)).encode() for number in lot.pixels[:, 0, 0, 0]]
