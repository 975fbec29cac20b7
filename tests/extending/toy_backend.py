"""A file format in one file and one registry entry: the exported program of torch, with the metadata beside it."""

import importlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cloformer_deploy.backends.base import ExportSpec, Feed, TensorReader
    from cloformer_deploy.backends.description import Description, Section
    from cloformer_deploy.backends.options import Options
    from cloformer_deploy.errors import MissingPartError
    from cloformer_deploy.progress import Progress
    from cloformer_deploy.tasks import Outputs


def open_file(path: str, threads: int, unit: str | None) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Open a file on a device for `bench`, which runs this very file on its own: see `backends.base.Opener`."""
    program, stored = _load(Path(path))
    return lambda feed: _run(program, stored, feed)


def _load(path: Path) -> tuple["torch.nn.Module", dict[str, Any]]:
    import torch

    with zipfile.ZipFile(path) as archive:
        program = torch.export.load(io.BytesIO(archive.read("program.pt2")))
        return program.module(), json.loads(archive.read("metadata.json"))


def _run(program: Any, stored: Mapping[str, Any], feed: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    with torch.inference_mode():
        found = program(*(torch.from_numpy(values) for values in feed.values()))
    tensors = found if isinstance(found, (tuple, list)) else [found]
    return {name: tensor.numpy() for name, tensor in zip(stored["outputs"], tensors, strict=True)}


class ToySession:
    """See `backends.base.Session`."""

    def __init__(self, path: Path) -> None:
        self._program, self._stored = _load(path)
        self.batch: int | None = self._stored["shape"][0]

    def run(self, feed: "Feed") -> "Outputs":
        return _run(self._program, self._stored, feed)


class ToyRuntime:
    """See `backends.base.Runtime`."""

    name, title = "toy-runtime", "Toy runtime"

    def missing(self) -> "MissingPartError | None":
        return None

    def version(self) -> str:
        return "1"

    def open(self, path: Path, threads: int = 1) -> ToySession:
        return ToySession(path)


class ToyBackend:
    """See `backends.base.Backend`."""

    name, suffix, extra = "toy", ".toy", "all"
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    conversion_s = 1
    image_colors: tuple[str, ...] = ("RGB",)
    input_layout: Literal["NCHW", "NHWC"] = "NCHW"
    dynamic_batch = False
    category_map = False
    suppression = None
    graph_keys = None

    def __init__(self) -> None:
        from cloformer_deploy.backends.base import Runtime
        from cloformer_deploy.backends.device_opener import Opener
        from cloformer_deploy.backends.target import FOLDS, Target

        self.targets: Mapping[str, Target] = {"cpu": Target("cpu", FOLDS, FOLDS, {})}
        self.runtimes: Sequence[Runtime] = (ToyRuntime(),)
        self.opener = Opener(Path(__file__), ("torch",), "torch")

    @property
    def options(self) -> "type[Options]":
        from cloformer_deploy.backends.options import NoOptions

        return NoOptions

    def check(self, options: Any, target: Any, precisions: Sequence[str], input_kind: str, batch: int | None) -> None:
        pass

    def convert(self, spec: "ExportSpec", paths: Mapping[str, Path], progress: "Progress") -> Iterator[str]:
        import torch

        from cloformer_deploy.backends import metadata
        from cloformer_deploy.backends.interface import with_interface

        dtype = torch.uint8 if spec.input_kind == "image" else torch.float32
        program = torch.export.export(with_interface(spec), (torch.zeros(spec.shape, dtype=dtype),))
        for precision, path in paths.items():
            stored = {
                "shape": spec.shape,
                "dtype": str(dtype).removeprefix("torch."),
                "outputs": [output.name for output in spec.outputs],
                "metadata": metadata.prefixed(spec, precision, {}),
            }
            with zipfile.ZipFile(path, "w") as archive:
                content = io.BytesIO()
                torch.export.save(program, content)
                archive.writestr("program.pt2", content.getvalue())
                archive.writestr("metadata.json", json.dumps(stored))
            yield precision

    def describe(self, path: Path) -> "Description":
        from cloformer_deploy.backends import metadata
        from cloformer_deploy.backends.description import Description, GraphSummary, TensorInfo

        program, stored = _load(path)
        told = metadata.parsed(stored["metadata"])
        operators = Counter(str(node.target) for node in program.graph.nodes if node.op == "call_function")  # type: ignore[union-attr]
        return Description(
            format=self.name,
            precision=told["precision"],
            inputs=(TensorInfo("image", tuple(stored["shape"]), stored["dtype"]),),
            outputs=tuple(TensorInfo(name, (stored["shape"][0], "classes"), "float32") for name in stored["outputs"]),
            operators=dict(operators),
            graph=GraphSummary(0, 4, sum(value.numel() for value in program.state_dict().values()), None),
            bytes=path.stat().st_size,
            metadata=told,
            quantized=(),
        )

    def inspect(self, path: Path, description: "Description") -> "Sequence[Section]":
        from cloformer_deploy.backends.description import Section

        return (Section("toy", {"loads": True}, (("toy figure", "7"),), (), ("The toy was opened.",)),)

    def open_tensors(self, path: Path) -> "TensorReader":
        raise NotImplementedError  # `blame` is not part of what a new format must have to be exported and judged

    def weight_differences(self, path: Path, lowered: "nn.Module") -> list[str]:
        return []


def register() -> None:
    """Make the one registry entry."""
    importlib.import_module("cloformer_deploy.backends.registry").BACKENDS["toy"] = ToyBackend()


if __name__ == "tests.extending.toy_backend":  # imported as a module, and not sent to a device
    register()
