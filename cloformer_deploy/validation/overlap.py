"""Pictures that ranges were measured on are no evidence of what a file is worth: they are refused."""

from collections.abc import Collection, Iterable, Mapping

from cloformer_deploy.errors import DataError


def refuse_shared(digests: Iterable[str], calibrations: Mapping[str, Collection[str]], where: str) -> None:
    """Make sure that no picture is one of a calibration set's, whatever its file is called.

    Args:
        digests: the `picture_digest` of each picture at the input's size.
        calibrations: of each set, by its name, the `picture_digest` of each picture.
        where: what the pictures are called in the error.

    Raises:
        DataError: some are; all are counted first.
    """
    known = {name: frozenset(digests) for name, digests in calibrations.items()}
    shared = dict.fromkeys(known, 0)
    n = 0
    for found in digests:
        n += 1
        for name, pictures in known.items():
            shared[name] += found in pictures
    for name, count in shared.items():
        if count:
            raise DataError(
                f"{count} of {n} pictures of {where} are in the calibration set {name}",
                "give pictures that no set was made of, or make the set of others and export again",
            )
