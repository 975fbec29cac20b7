"""Core ML: Apple's own on macOS, and the reference interpreter on any system."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cloformer_deploy import __version__
from cloformer_deploy.backends.base import INPUT_NAME, Feed
from cloformer_deploy.backends.failures import package_missing, run_failed
from cloformer_deploy.errors import BundleError, MissingPartError, RequestError, ToolError
from cloformer_deploy.system.files import naming
from cloformer_deploy.system.packages import require
from cloformer_deploy.tasks.base import Outputs


class CoreML:
    """Core ML itself, on whichever units it chooses. See `Runtime`."""

    name = "coreml"
    title = "Core ML"

    def missing(self) -> MissingPartError | None:
        """See `Runtime.missing`."""
        if platform.system() != "Darwin":
            return MissingPartError(
                f"Core ML runs on macOS only, this is {platform.system()}",
                "the reference interpreter runs Core ML files here",
            )
        return package_missing("coremltools", extra="coreml")

    def version(self) -> str:
        """See `Runtime.version`."""
        return f"{version('coremltools')} macOS {platform.mac_ver()[0]}"

    def open(self, path: Path, threads: int = 1) -> "CoreMLSession":
        """See `Runtime.open`."""
        missing = self.missing()
        if missing:
            raise missing
        return CoreMLSession(path)


class CoreMLSession:
    """See `Session`."""

    def __init__(self, path: Path) -> None:
        import coremltools as ct

        from cloformer_deploy.backends.coreml.interpreter import Package

        with naming(path):
            Package.load(path)  # Core ML follows links and paths out of a package
        try:
            self._model = ct.models.MLModel(str(path))
            spec = self._model.get_spec()
            self._program: Any = None
            if spec.WhichOneof("Type") == "pipeline":  # the cells before suppression are no output of it
                self._program = ct.models.MLModel(spec.pipeline.models[0], weights_dir=self._model.weights_dir)
        except Exception as error:  # compiler errors arrive as plain Exception or RuntimeError
            raise ToolError(f"Core ML cannot load {path}: {error}", "export it again") from error
        kind = spec.description.input[0].type
        self._is_image = kind.HasField("imageType")
        self.batch: int | None = 1 if self._is_image else int(kind.multiArrayType.shape[0])

    def run(self, feed: Feed) -> Outputs:
        """See `Session.run`."""
        from PIL import Image

        given = {
            name: Image.fromarray(values[0].transpose(1, 2, 0)) if self._is_image else values
            for name, values in feed.items()
        }
        try:
            found = self._model.predict(given)
            if self._program is not None:
                found.update(self._program.predict(given))
        except Exception as error:
            raise run_failed("Core ML", feed, error) from error
        return _outputs(found)


class CoreMLInterpreter:
    """The reference interpreter: checks numbers anywhere, says nothing about speed. See `Runtime`."""

    name = "coreml-interpreter"
    title = "Core ML reference interpreter"

    def missing(self) -> MissingPartError | None:
        """See `Runtime.missing`."""
        return package_missing("coremltools", extra="coreml")

    def version(self) -> str:
        """See `Runtime.version`."""
        return f"{__version__} torch {version('torch')}"

    def open(self, path: Path, threads: int = 1) -> "InterpreterSession":
        """See `Runtime.open`."""
        require("coremltools", extra="coreml")
        return InterpreterSession(path)


class InterpreterSession:
    """See `Session`."""

    def __init__(self, path: Path) -> None:
        from cloformer_deploy.backends.coreml.interpreter import Program

        with naming(path):
            self._program = Program.load(path)
        package = self._program.package
        inputs = {item.name: item.shape for item in package.inputs}
        if INPUT_NAME not in inputs:
            raise BundleError(f"{path} has no {INPUT_NAME!r}, only {', '.join(inputs)}", "export it again")
        self.batch: int | None = inputs[INPUT_NAME][0]

    def run(self, feed: Feed) -> Outputs:
        """See `Session.run`."""
        try:
            found = self._program.run(feed)
        except RequestError as error:  # its own inputs are other ones
            raise run_failed("The Core ML reference interpreter", feed, error) from error
        return _outputs(found)


def _outputs(found: Mapping[str, Any]) -> Outputs:
    """Return the outputs that are arrays; a classifier has a label and a dictionary beside them."""
    import numpy as np

    from cloformer_deploy.backends.coreml.detections import VISION, in_common_form

    arrays = {name: np.asarray(values, np.float32) for name, values in found.items() if isinstance(values, np.ndarray)}
    return in_common_form(arrays) if arrays.keys() >= set(VISION) else arrays
