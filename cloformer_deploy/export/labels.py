"""Reading files of class names."""

from pathlib import Path

from cloformer_deploy.errors import RequestError


def read_labels(path: Path, num_classes: int) -> tuple[str, ...]:
    """Read class names from a UTF-8 text file, one per line, in the order of the model's classes.

    Raises:
        RequestError: unreadable, a wrong number of lines, an empty line, or a name that occurs twice.
    """
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"the labels file {path} cannot be read: {error}", "give a UTF-8 text file") from error
    if len(labels) != num_classes:
        raise RequestError(f"{path} has {len(labels)} lines, the model {num_classes} classes", "give one name per line")
    for index, label in enumerate(labels):
        if not label or not label.isprintable():
            raise RequestError(f"{path}: line {index + 1} is {label!r}", "give every class a printable name")
        if label in labels[:index]:
            first = labels.index(label) + 1
            raise RequestError(f"{path}: {label!r} names lines {first} and {index + 1}", "make the names unique")
    return labels
