"""Read an `.mlpackage`: a folder with `Manifest.json`, a protobuf and its weight files. Its content is not trusted.

coremltools writes, and Core ML reads, this layout:

    Manifest.json                                 itemInfoEntries: identifier -> path below Data/; rootModelIdentifier
    Data/com.apple.CoreML/model.mlmodel           protobuf CoreML.Specification.Model
    Data/com.apple.CoreML/weights/weight.bin      weights; named @model_path/weights/weight.bin in the protobuf
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from cloformer_deploy.backends.coreml.interpreter.suppression import Suppression
from cloformer_deploy.backends.coreml.interpreter.types import UNKNOWN_SIZE, TensorType, value_type
from cloformer_deploy.backends.package_files import EXPORT_AGAIN, check_no_links, inside, read_part, shown
from cloformer_deploy.errors import BundleError, MissingPartError
from cloformer_deploy.system.packages import install_command

MODEL_PATH = "@model_path/"
"""The prefix of each weight file's name in the protobuf; it stands for the folder of the protobuf."""

_ARRAY_DTYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131080: "int8", 131104: "int32"}
"""The element types of ArrayFeatureType.ArrayDataType (FeatureTypes.proto), by number."""

_PROTOBUF = f"{__name__}.coremltools_proto"
"""The name under which the folder of coremltools' generated protobuf modules is a package in this process."""


@dataclass(frozen=True)
class Feature:
    """One input or output of a model.

    Attributes:
        name: its name in the package's interface.
        kind: "tensor"; "image" (RGB, 0..255); "string" or "int64" (a label); "double" (a number); "dictionary" (label
            to probability).
        shape: the size of each axis of a tensor; (1, 3, height, width) for an image; () for other kinds. A flexible
            dimension of a tensor is -1.
        dtype: the element type of a tensor, for example "float32"; "uint8" for an image; "string" or "int64" for a
            label or the labels of a dictionary; "double" for a number.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Package:
    """A parsed package. Its weights are not loaded, and it may contain operations that the interpreter cannot run.

    Attributes:
        root: the package's folder, resolved.
        folder: the folder of the protobuf, which the names of weight files start from.
        spec: the parsed `Model_pb2.Model`.
        opset: the operation set of the program, for example "CoreML7" for iOS 17.
        main: the main function, a `MIL_pb2.Function`.
        block: the main function's `MIL_pb2.Block` for `opset`, with its operations.
        inputs: the model's inputs, in the order of its description, but for those that may be left out.
        optional: the model's inputs that may be left out.
        outputs: the model's outputs, in the order of its description.
        computed: the outputs of its program; `outputs` but for a pipeline.
        suppression: what a pipeline ends in; None where the model is a program alone.
        operators: the number of operations of each type except `const`, by MIL name, the most frequent first.
        metadata: author, shortDescription, versionString and license (those that are set), and all user-defined
            entries.
    """

    root: Path
    folder: Path
    spec: Any
    opset: str
    main: Any
    block: Any
    inputs: tuple[Feature, ...]
    optional: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    computed: tuple[Feature, ...]
    suppression: Suppression | None
    operators: Mapping[str, int]
    metadata: Mapping[str, str]

    @classmethod
    def load(cls, path: Path) -> "Package":
        """Find and parse the model of the `.mlpackage` folder at `path`.

        Raises:
            BundleError: a file is missing, malformed or outside the package, or the model is not an ML program.
            MissingPartError: coremltools is not installed.
        """
        if not path.is_dir():
            problem = "is not a folder" if path.exists() else "does not exist"
            raise BundleError(f"{path} {problem}; an .mlpackage is a folder", "pass the .mlpackage folder itself")
        model_pb2 = _protobuf_classes()
        root = path.resolve()
        check_no_links(root)
        item = _model_item(root)
        spec = model_pb2.Model()
        try:
            spec.ParseFromString(bytes(read_part(root, root / "Data", item)))
        except BundleError:
            raise
        except Exception as error:  # DecodeError, whose module depends on the protobuf implementation
            raise BundleError(f"{shown(item)} is truncated or damaged ({shown(error)})", EXPORT_AGAIN) from error
        program, suppression = _parts(spec)
        main, block = _main_block(program)
        inputs = [_feature(feature) for feature in spec.description.input]
        optional = {feature.name for feature in spec.description.input if feature.type.isOptional}
        return cls(
            root=root,
            folder=inside(root, root / "Data", item).parent,
            spec=spec,
            opset=main.opset,
            main=main,
            block=block,
            inputs=tuple(feature for feature in inputs if feature.name not in optional),
            optional=tuple(feature for feature in inputs if feature.name in optional),
            outputs=tuple(_feature(feature) for feature in spec.description.output),
            computed=tuple(_feature(feature) for feature in program.description.output),
            suppression=suppression,
            operators=dict(Counter(operation.type for operation in _all_operations(block)).most_common()),
            metadata=_metadata(spec.description.metadata),
        )

    def check_weight_files(self) -> None:
        """Check that every weight file that the program refers to can be read.

        Raises:
            BundleError: a weight file cannot be read (see `read_weights`).
        """
        values = [value for operation in self.block.operations for value in operation.attributes.values()]
        for name in sorted({v.blobFileValue.fileName for v in values if v.WhichOneof("value") == "blobFileValue"}):
            self.read_weights(name)

    def read_weights(self, name: str) -> bytearray:
        """Read a weight file into memory.

        Args:
            name: its name in the protobuf, for example "@model_path/weights/weight.bin".

        Raises:
            BundleError: the name is not that of a regular file inside the package, or the file is empty, too large
                or unreadable.
        """
        if not name.startswith(MODEL_PATH):
            raise BundleError(f"the weight file name {shown(name)} does not begin with {MODEL_PATH!r}", EXPORT_AGAIN)
        return read_part(self.root, self.folder, name.removeprefix(MODEL_PATH))


def _protobuf_classes() -> Any:
    """Return coremltools' module of protobuf classes, without coremltools: importing that takes seconds."""
    found = find_spec("coremltools")
    if found is None or found.submodule_search_locations is None:
        message = "reading a Core ML package needs coremltools, which is not installed"
        raise MissingPartError(message, install_command("coreml"))
    if _PROTOBUF not in sys.modules:
        package = ModuleType(_PROTOBUF)
        package.__path__ = [str(Path(folder, "proto")) for folder in found.submodule_search_locations]
        sys.modules[_PROTOBUF] = package
    return import_module(f"{_PROTOBUF}.Model_pb2")


def _model_item(root: Path) -> str:
    """Return the path of the root model below Data/, after checking that every item of the manifest exists."""
    try:
        manifest = json.loads(read_part(root, root, "Manifest.json"))
        items = {identifier: entry["path"] for identifier, entry in manifest["itemInfoEntries"].items()}
        item = items[manifest["rootModelIdentifier"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = shown(f"{type(error).__name__}: {error}")
        raise BundleError(f"Manifest.json is damaged ({reason})", EXPORT_AGAIN) from error
    for relative in items.values():
        if not isinstance(relative, str):
            raise BundleError(f"Manifest.json has the path {shown(relative)}, which is not a string", EXPORT_AGAIN)
        if not inside(root, root / "Data", relative).exists():
            raise BundleError(f"Manifest.json lists {shown(relative)}, which is not in the package", EXPORT_AGAIN)
    return str(item)


def _parts(spec: Any) -> tuple[Any, Suppression | None]:
    """Return the ML program of a model, and the suppression behind it, if the model is a pipeline of the two.

    Raises:
        BundleError: it is a pipeline of other models.
    """
    if spec.WhichOneof("Type") != "pipeline":
        return spec, None
    kinds = [model.WhichOneof("Type") or "empty" for model in spec.pipeline.models]
    if kinds != ["mlProgram", "nonMaximumSuppression"]:
        message = f"the model is a pipeline of {shown(', '.join(kinds))}, not of mlProgram, nonMaximumSuppression"
        raise BundleError(message, "give a package that cloformer-deploy exported")
    program, last = spec.pipeline.models
    suppression = Suppression.of(last)
    computed = {feature.name for feature in program.description.output}
    written = {suppression.confidence[1], suppression.coordinates[1]}
    if not {suppression.confidence[0], suppression.coordinates[0]} <= computed:
        raise BundleError("the suppression model reads what the program does not compute", EXPORT_AGAIN)
    if {feature.name for feature in spec.description.output} != written:
        raise BundleError("the pipeline's outputs are not those of its suppression model", EXPORT_AGAIN)
    return program, suppression


def _main_block(spec: Any) -> tuple[Any, Any]:
    """Return the main function and its block for the operation set that it declares."""
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise BundleError(
            f"the model is not an ML program but {shown(kind or 'empty')}",
            "convert the model with convert_to='mlprogram'",
        )
    functions = dict(spec.mlProgram.functions)
    name = spec.description.defaultFunctionName or "main"
    if name not in functions:
        message = f"the program has no function {shown(name)}; its functions are {shown(', '.join(sorted(functions)))}"
        raise BundleError(message, EXPORT_AGAIN)
    main = functions[name]
    blocks = dict(main.block_specializations)
    if main.opset not in blocks:
        message = f"the function {shown(name)} has no block for its operation set {shown(main.opset)}"
        raise BundleError(message, EXPORT_AGAIN)
    return main, blocks[main.opset]


def _all_operations(block: Any) -> Iterator[Any]:
    """Yield the operations of a block and of its nested blocks, except constants."""
    for operation in block.operations:
        if operation.type != "const":
            yield operation
        for nested in operation.blocks:
            yield from _all_operations(nested)


def _feature(feature: Any) -> Feature:
    kind = feature.type.WhichOneof("Type")
    value: Any = getattr(feature.type, kind) if kind else None
    if kind == "multiArrayType":
        dtype = _ARRAY_DTYPES.get(value.dataType, f"unknown type {value.dataType}")
        ranges = [(item.lowerBound, item.upperBound) for item in value.shapeRange.sizeRanges]
        shape = tuple(value.shape) or tuple(least if least == most else UNKNOWN_SIZE for least, most in ranges)
        return Feature(feature.name, "tensor", shape, dtype)
    if kind == "imageType":
        return Feature(feature.name, "image", (1, 3, value.height, value.width), "uint8")
    if kind in ("stringType", "int64Type", "doubleType"):
        label = kind.removesuffix("Type")
        return Feature(feature.name, label, (), label)
    if kind == "dictionaryType":
        labels = (value.WhichOneof("KeyType") or "unknownKeyType").removesuffix("KeyType")
        return Feature(feature.name, "dictionary", (), labels)
    message = f"the model's input or output {shown(feature.name)} has the unsupported kind {shown(kind)}"
    raise BundleError(message, EXPORT_AGAIN)


def _metadata(proto: Any) -> dict[str, str]:
    own = {name: getattr(proto, name) for name in ("author", "shortDescription", "versionString", "license")}
    return dict(proto.userDefined) | {name: value for name, value in own.items() if value}


def input_types(package: Package) -> dict[str, TensorType]:
    """Return the types of the program's inputs by name, after checking that they are those the model declares.

    Raises:
        BundleError: an input is not a tensor of a fixed size, or the inputs of the program and of the model differ.
    """
    types: dict[str, TensorType] = {}
    for named in package.main.inputs:
        kind = value_type(named.type)
        if not isinstance(kind, TensorType) or min(kind.shape, default=0) < 0:
            message = f"the program's input {shown(named.name)} is {kind}, not a tensor of a fixed size"
            raise BundleError(message, "export it with a fixed input size")
        types[named.name] = kind
    for feature in package.inputs:
        same = types.get(feature.name)
        if same is None or same.shape != feature.shape or feature.dtype not in ("uint8", same.dtype.name):
            declared = f"{feature.dtype}{list(feature.shape)}"
            found = f"declares it as {same}" if same else "has no such input"
            message = f"the model's input {shown(feature.name)} is {declared}, but the program {found}"
            raise BundleError(message, EXPORT_AGAIN)
    if len(types) != len(package.inputs):
        raise BundleError(f"the model has {len(package.inputs)} inputs, the program has {len(types)}", EXPORT_AGAIN)
    return types
