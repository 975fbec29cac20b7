"""One process of a fuzz run; `tests.fuzz` starts it. Its arguments: target, folder of findings, libFuzzer's own."""

import hashlib
import sys
import tempfile
import traceback
import warnings
from contextlib import suppress
from pathlib import Path

import atheris

MEMORY = Path("/dev/shm")
"""A folder in memory, where inputs are written."""
INSTRUMENTED = ["cloformer_deploy", "flatbuffers", "pickletools", "tomllib", "zipfile"]


def place(error: BaseException) -> str:
    """Return the kind of an error and the innermost line of this package that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/cloformer_deploy/" in frame.filename] or frames
    name = own[-1].filename.rpartition("/cloformer_deploy/")[2]
    return f"{type(error).__name__} in {name}:{own[-1].lineno}"


def keep(findings: Path, error: BaseException, data: bytes) -> None:
    """Keep the smallest input of each kind of error, with the error beside it."""
    name = hashlib.sha256(place(error).encode()).hexdigest()[:12]
    path = findings / name
    if not path.exists() or path.stat().st_size > len(data):
        path.write_bytes(data)
        text = "".join(traceback.format_exception(error))
        path.with_suffix(".txt").write_text(f"{place(error)}\n{text}", encoding="utf-8", errors="backslashreplace")


def main(name: str, findings: Path, options: list[str]) -> None:
    """Fuzz a target until libFuzzer ends the process."""
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from cloformer_deploy.errors import CloformerDeployError
        from tests.fuzz.targets import TARGETS, seeds

        target = TARGETS[name]
        folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        for seed in seeds(name):  # what is imported late is instrumented too
            with suppress(Exception):
                target(seed.read_bytes(), folder)
    warnings.simplefilter("error")

    def once(data: bytes) -> None:
        try:
            target(data, folder)
        except CloformerDeployError:
            pass
        except Exception as error:  # whatever else leaves a parser is a finding
            keep(findings, error, data)

    atheris.Setup([sys.argv[0], *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
