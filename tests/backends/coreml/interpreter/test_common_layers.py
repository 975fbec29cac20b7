"""Layers of networks that are no CloFormer: coremltools' operators for them, run by the interpreter, are torch's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cloformer_deploy.backends.coreml.interpreter import Program

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]  # coremltools' own warnings

LAYERS = {
    "transposed": nn.ConvTranspose2d(6, 4, 2, 2),
    "transposed with padding": nn.ConvTranspose2d(6, 4, 4, 2, 1),
    "transposed with output padding": nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1),
    "transposed depthwise": nn.ConvTranspose2d(6, 6, 3, 2, groups=6, bias=False),
    "leaky": nn.LeakyReLU(0.1),
    "relu6": nn.ReLU6(),
    "elu": nn.ELU(0.7),
    "softplus": nn.Softplus(),
    "hard sigmoid": nn.Hardsigmoid(),
    "hard swish": nn.Hardswish(),
}


def test_they_compute_what_torch_does(tmp_path: Path) -> None:
    import coremltools as ct

    torch.manual_seed(0)
    x = 2 * torch.randn(1, 6, 5, 7)
    model = nn.ModuleList(LAYERS.values()).eval()

    class All(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = model

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(layer(x) for layer in self.layers)

    made = ct.convert(
        torch.export.export(All(), (x,)).run_decompositions({}),
        inputs=[ct.TensorType(name="x", shape=x.shape)],
        outputs=[ct.TensorType(name=f"y{index}") for index in range(len(LAYERS))],
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    )
    made.save(str(tmp_path / "all.mlpackage"))
    found = Program.load(tmp_path / "all.mlpackage").run({"x": x.numpy()})
    with torch.no_grad():
        for index, (name, layer) in enumerate(LAYERS.items()):
            np.testing.assert_allclose(
                np.asarray(found[f"y{index}"]), layer(x).numpy(), rtol=0, atol=1e-5, err_msg=name
            )
