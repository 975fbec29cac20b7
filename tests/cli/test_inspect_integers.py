"""Tables of `inspect` on a file's quantized tensors."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from tests.cli.command_line import CopyBundle, invoke, parsed, relist, save, small_model

LONG = "a_name_that_is_much_too_long_for_a_column_of_it_123"
SHARES = f'{{"image": 1.5e-5, "{LONG}": 0.0123}}'


def integer_model() -> Any:
    """Return the small model with three quantized activations, one with a long name, and a quantized constant."""
    model = small_model(metadata={"cloformer_deploy.clipped": SHARES})
    graph = model.graph
    grids = {"image": (0.5, 3), "colors": (0.25, 0), LONG: (2.0, 255)}
    for name, (scale, zero_point) in grids.items():
        values = {f"{name}_scale": np.float32(scale), f"{name}_zero": np.uint8(zero_point)}
        graph.initializer.extend(numpy_helper.from_array(np.asarray(value), key) for key, value in values.items())
        graph.node.append(helper.make_node("QuantizeLinear", [name, *values], [f"{name}_quantized"]))
    graph.node.append(helper.make_node("Identity", ["colors"], [LONG]))
    graph.initializer.append(numpy_helper.from_array(np.ones((2, 3), np.int8), "w"))
    graph.initializer.append(numpy_helper.from_array(np.array([0.125, 0.5], np.float32), "w_scale"))
    graph.node.append(helper.make_node("DequantizeLinear", ["w", "w_scale"], ["w_dequantized"], axis=0))
    return model


def cells(shown: str, first: str) -> list[str]:
    """Return the cells of the one line that begins with `first`."""
    (line,) = [line for line in shown.splitlines() if line.startswith(f" {first}")]
    return line.split()


def test_a_file(tmp_path: Path) -> None:
    save(integer_model(), tmp_path / "a.onnx")
    shown = invoke("inspect", "a.onnx")
    assert shown.code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    told = [cells(shown.stdout, name) for name in ("a_name", "image  ", "colors")]
    assert told == [
        ["a_name_that...mn_of_it_123", "uint8", "2", "255", "-510", "0", "1.2%"],
        ["image", "uint8", "0.5", "3", "-1.5", "126", "0.0015%"],
        ["colors", "uint8", "0.25", "0", "0", "63.8", "-"],
    ]
    order = [shown.stdout.index(f"\n {name}") for name in ("a_name", "image  ", "colors")]
    assert order == sorted(order)
    assert cells(shown.stdout, "int8") == ["int8", "1", "2", "0.125..0.5", "-64", "63.5"]


def test_a_bundle(drafted: CopyBundle) -> None:
    bundle = drafted()
    save(integer_model(), bundle / "cloformer_xxs-fp32.onnx")
    relist(bundle)
    shown = invoke("inspect", "bundle")
    assert shown.code == 0
    told = "onnx fp32: integers in 3 activations and 1 constant; clipped most: 1.2% of a_name_that...mn_of_it_123."
    assert told in shown.stdout
    (artifact,) = parsed(invoke("inspect", "bundle", "--json").stdout)["artifacts"]
    assert [item["clipped"] for item in artifact["quantized"]] == [1.5e-5, None, 0.0123, None]
    assert artifact["quantized"][3] == {
        "name": "w",
        "dtype": "int8",
        "constant": True,
        "scale": [0.125, 0.5],
        "channels": 2,
        "zero_point": 0,
        "low": -64.0,
        "high": 63.5,
        "clipped": None,
    }
