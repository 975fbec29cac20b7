"""Pictures that ranges were measured on are no evidence of what a file is worth: they are refused."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy.data import picture_digest
from cloformer_deploy.errors import DataError


def refuse_shared(
    batches: Iterable[NDArray[np.uint8]], calibrations: Mapping[str, Collection[str]], where: str
) -> None:
    """Make sure that no picture is one of a calibration set's, whatever its file is called.

    Args:
        batches: the pictures at the input's size, RGB uint8 (B, 3, H, W).
        calibrations: of each set, by its name, the `picture_digest` of each picture.
        where: what the pictures are called in the error.

    Raises:
        DataError: some are; all are counted first.
    """
    known = {name: frozenset(digests) for name, digests in calibrations.items()}
    shared = dict.fromkeys(known, 0)
    n = 0
    for pixels in batches:
        for picture in pixels:
            found = picture_digest(picture)
            n += 1
            for name, digests in known.items():
                shared[name] += found in digests
    for name, count in shared.items():
        if count:
            raise DataError(
                f"{count} of {n} pictures of {where} are in the calibration set {name}",
                "give pictures that no set was made of, or make the set of others and export again",
            )
