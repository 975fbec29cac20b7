"""Small traced models, each made once a session: tests that change one make their own."""

from collections.abc import Iterator

import pytest
import torch

from tests.quantization.small_models import Traced, traced


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of torch that wait for a busy core make small work slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def onnx_cpu() -> Traced:
    """The small model as the mix of integers and floats for CPUs takes it."""
    return traced("onnx", "cpu")


@pytest.fixture(scope="session")
def ethos_u() -> Traced:
    """The small model as the recipe of nothing but integers takes it."""
    return traced("tflite", "ethos-u")
