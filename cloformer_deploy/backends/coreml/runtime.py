"""Core ML: Apple's own on macOS, and the reference interpreter on any system."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloformer_deploy import __version__
from cloformer_deploy.backends.base import INPUT_NAME, OUTPUT_NAME, package_missing
from cloformer_deploy.errors import BundleError, MissingPartError, ToolError
from cloformer_deploy.system.packages import require


class CoreML:
    """Core ML itself, on whichever units it chooses. See `Runtime`."""

    name = "coreml"
    title = "Core ML"
    format = "coreml"

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

    def open(self, path: Path, threads: int = 1) -> "CoreMLSession":  # noqa: ARG002 - Core ML decides itself
        """See `Runtime.open`."""
        missing = self.missing()
        if missing:
            raise missing
        return CoreMLSession(path)


class CoreMLSession:
    """See `Session`."""

    def __init__(self, path: Path) -> None:
        import coremltools as ct

        try:
            self._model = ct.models.MLModel(str(path))
        except Exception as error:  # compiler errors arrive as plain Exception or RuntimeError
            raise ToolError(f"Core ML cannot load {path}: {error}", "export it again") from error
        kind = self._model.get_spec().description.input[0].type
        self._is_image = kind.HasField("imageType")
        self.batch: int | None = 1 if self._is_image else int(kind.multiArrayType.shape[0])

    def run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """See `Session.run`."""
        from PIL import Image

        value: Any = Image.fromarray(images[0].transpose(1, 2, 0)) if self._is_image else images
        try:
            return np.asarray(self._model.predict({INPUT_NAME: value})[OUTPUT_NAME], np.float32)
        except Exception as error:
            message = f"Core ML failed on an input {images.dtype} {images.shape}: {error}"
            raise ToolError(message, "export it again") from error


class CoreMLInterpreter:
    """The reference interpreter: checks numbers anywhere, says nothing about speed. See `Runtime`."""

    name = "coreml-interpreter"
    title = "Core ML reference interpreter"
    format = "coreml"

    def missing(self) -> MissingPartError | None:
        """See `Runtime.missing`."""
        return package_missing("coremltools", extra="coreml")

    def version(self) -> str:
        """See `Runtime.version`."""
        return f"{__version__} torch {version('torch')}"

    def open(self, path: Path, threads: int = 1) -> "InterpreterSession":  # noqa: ARG002 - torch's threads are the process's
        """See `Runtime.open`."""
        require("coremltools", extra="coreml")
        return InterpreterSession(path)


class InterpreterSession:
    """See `Session`."""

    def __init__(self, path: Path) -> None:
        from cloformer_deploy.backends.coreml.interpreter import Program

        try:
            self._program = Program.load(path)
        except BundleError as error:
            raise BundleError(f"{path}: {error.message}", error.hint) from error
        package = self._program.package
        inputs, outputs = ({item.name: item.shape for item in items} for items in (package.inputs, package.outputs))
        for name, found in ((INPUT_NAME, inputs), (OUTPUT_NAME, outputs)):
            if name not in found:
                raise BundleError(f"{path} has no {name!r}, only {', '.join(found)}", "export it again")
        self.batch: int | None = inputs[INPUT_NAME][0]

    def run(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """See `Session.run`."""
        return np.asarray(self._program.run({INPUT_NAME: images})[OUTPUT_NAME], np.float32)
