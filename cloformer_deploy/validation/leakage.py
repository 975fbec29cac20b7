"""Data leakage: images of a calibration set must not be used for validation."""

from collections.abc import Collection, Iterable, Mapping

from cloformer_deploy.errors import DataError


def check_no_leakage(digests: Iterable[str], calibrations: Mapping[str, Collection[str]], where: str) -> None:
    """Check that no image is in a calibration set, whatever its file is called.

    Args:
        digests: `image_digest` of each image at the input's size.
        calibrations: `image_digest` of each image of each set, by the set's name.
        where: name of the images in the error.

    Raises:
        DataError: some are; the message counts them.
    """
    known = {name: frozenset(digests) for name, digests in calibrations.items()}
    shared = dict.fromkeys(known, 0)
    n = 0
    for found in digests:
        n += 1
        for name, images in known.items():
            shared[name] += found in images
    for name, count in shared.items():
        if count:
            raise DataError(
                f"{count} of {n} images of {where} are in the calibration set {name}",
                "give other images, or make the calibration set of other images and export again",
            )
