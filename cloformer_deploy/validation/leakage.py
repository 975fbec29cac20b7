"""ImageSet that ranges were measured on are no evidence of what a file is worth: they are refused."""

from collections.abc import Collection, Iterable, Mapping

from cloformer_deploy.errors import DataError


def check_no_leakage(digests: Iterable[str], calibrations: Mapping[str, Collection[str]], where: str) -> None:
    """Make sure that no image is one of a calibration set's, whatever its file is called.

    Args:
        digests: the `image_digest` of each image at the input's size.
        calibrations: of each set, by its name, the `image_digest` of each image.
        where: what the images are called in the error.

    Raises:
        DataError: some are; all are counted first.
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
                "give images that no set was made of, or make the set of others and export again",
            )
