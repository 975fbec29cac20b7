"""Every tensor that a TFLite file computes, by LiteRT without XNNPACK; and the keys of the nodes behind them."""

import warnings
from pathlib import Path

import numpy as np

from cloformer_deploy.backends.base import Feed, FileTensor, TensorReader, Tensors
from cloformer_deploy.backends.description import GraphKeys
from cloformer_deploy.backends.failures import run_failed
from cloformer_deploy.backends.tflite.file import load_model
from cloformer_deploy.backends.tflite.runtime import channels_last, numbers, stored
from cloformer_deploy.errors import ToolError


def open_tensors(path: Path) -> TensorReader:
    """See `Backend.open_tensors`."""
    load_model(path)  # checks what LiteRT would follow out of the file
    return LiteRTTensors(path.read_bytes())


def graph_keys(path: Path) -> GraphKeys:
    """See `Backend.graph_keys`: the key of a node is the name of its output."""
    graph = load_model(path).subgraphs[0]
    keys = {}
    for index, tensor in enumerate(graph.tensors):
        name = tensor.name.decode()
        keys[name] = keys[_numbered(name, index)] = name
    return GraphKeys(graph.name.decode(), keys)


def _numbered(name: str, index: int) -> str:
    """Return the name of a tensor for `LiteRTTensors`: with its index, because names repeat."""
    return f"{name}:{index}"


class LiteRTTensors:
    """LiteRT without XNNPACK. See `TensorReader`."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns that keeping all tensors takes memory
                self._interpreter = Interpreter(
                    model_content=content,
                    experimental_preserve_all_tensors=True,
                    experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ToolError(f"LiteRT cannot show all tensors: {error}", "export it again") from error
        (self._input,) = self._interpreter.get_input_details()
        self.batch: int | None = int(self._input["shape"][0])
        computed = {index for item in self._interpreter._get_ops_details() for index in item["outputs"]}
        self._details = [
            item
            for item in self._interpreter.get_tensor_details()
            if item["index"] in computed or item["index"] == self._input["index"]
        ]

    def run(self, feed: Feed) -> Tensors:
        """See `TensorReader.run`."""
        try:
            (image,) = feed.values()
            self._interpreter.set_tensor(self._input["index"], stored(channels_last(image), self._input))
            self._interpreter.invoke()
            read = [(item, self._interpreter.get_tensor(item["index"])) for item in self._details]
        except (ValueError, RuntimeError) as error:
            raise run_failed("LiteRT", feed, error) from error
        found = {}
        for item, values in read:
            name = _numbered(item["name"], item["index"])
            if values.dtype.kind == "f":
                found[name] = FileTensor(np.asarray(values, np.float32), False)
            elif item["quantization"][0]:  # per-tensor: activations have no other
                found[name] = FileTensor(np.asarray(numbers(values, item), np.float32), True)
        return found
