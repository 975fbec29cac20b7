"""Read node data with Model Explorer's own types, and the graph with its adapters; run in an environment of its own.

python model_explorer_keys.py FILE OVERLAY    # prints JSON: the graph, keys of its nodes, and those of the overlay
"""

import json
import sys
from pathlib import Path

import dacite
from model_explorer.builtin_tflite_flatbuffer_adapter import BuiltinTfliteFlatbufferAdapter
from model_explorer.node_data_builder import GraphNodeData, ModelNodeData
from model_explorer_onnx.main import ONNXAdapter


def graph(path: str) -> tuple[str, set[str]]:
    """Return the name of a file's graph, and every key that selects one of its nodes: ids and tensors' names."""
    if path.endswith(".onnx"):
        (found,) = ONNXAdapter().convert(path, {})["graphs"]
        return found.id, {node.id for node in found.nodes}
    (collection,) = BuiltinTfliteFlatbufferAdapter().convert(path, {})["graphCollections"]
    (found,) = collection.graphs
    metadata = [item for node in found["nodes"] for output in node["outputsMetadata"] for item in output["attrs"]]
    return found["id"], {item["value"] for item in metadata if item["key"] == "tensor_name"}


name, keys = graph(sys.argv[1])
data = json.loads(Path(sys.argv[2]).read_text())
strict = dacite.Config(strict=True)  # rejects keys that the schema does not have
read = ModelNodeData({key: dacite.from_dict(GraphNodeData, value, strict) for key, value in data.items()})
shown = {key: list(value.results) for key, value in read.graphsData.items()}
print(json.dumps({"graph": name, "keys": sorted(keys), "overlay": shown}))  # noqa: T201
