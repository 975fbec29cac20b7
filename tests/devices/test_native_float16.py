"""An fp16 file is computed in float16 on a processor that can: an emulated Cortex-A76.

The imports and the inferences of the emulated processor take most of its twenty seconds; nothing else here has such
arithmetic.
"""

import os
import shutil
import subprocess

import numpy as np
import pytest

from cloformer_deploy.backends.base import INPUT_NAME
from cloformer_deploy.backends.tflite.runtime import LiteRT
from cloformer_deploy.bundle import Bundle
from tests.artifacts import artifact_of
from tests.devices.device import Device

pytestmark = pytest.mark.integration

RUN = """
import numpy
from ai_edge_litert.interpreter import Interpreter
for name in ("fp32", "fp16"):
    interpreter = Interpreter(model_path=name + ".tflite", num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], numpy.load("image.npy"))
    interpreter.invoke()
    numpy.save(name + ".npy", interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
"""


def sqnr_db(expected: "np.typing.NDArray[np.float32]", found: "np.typing.NDArray[np.float32]") -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(expected - found).sum()))


def test_on_a_cortex_a76(arm_board: Device, tiny_bundle: Bundle) -> None:
    image = np.random.default_rng(2).standard_normal((1, 3, 224, 224)).astype(np.float32)
    there = arm_board.scratch
    np.save(there / "image.npy", np.ascontiguousarray(image.transpose(0, 2, 3, 1)))
    (there / "run.py").write_text(RUN)
    paths = {name: tiny_bundle.path(artifact_of(tiny_bundle, "tflite", name)) for name in ("fp32", "fp16")}
    for name, path in paths.items():
        shutil.copy(path, there / f"{name}.tflite")
    script = f"cd {arm_board.temporary} && {arm_board.python} run.py"
    subprocess.run(
        [*arm_board.command, *arm_board.shell, script], env={**os.environ, **arm_board.env}, check=True, timeout=300
    )
    expected = {name: LiteRT().open(path).run({INPUT_NAME: image})["logits"] for name, path in paths.items()}
    assert sqnr_db(expected["fp32"], np.load(there / "fp32.npy")) > 100
    assert 50 < sqnr_db(expected["fp16"], np.load(there / "fp16.npy")) < 75
