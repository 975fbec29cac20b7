"""Names of NPUs."""

import pytest

from cloformer_deploy.errors import RequestError
from cloformer_deploy.npu import NPUS, npu_of


def test_each_is_found_by_its_name() -> None:
    assert all(npu_of(name).name == name for name in NPUS)


@pytest.mark.parametrize("name", ["hexagon-v70", "hexagon", "hexagon-v075", "HEXAGON-V75", ""])
def test_others_are_refused(name: str) -> None:
    with pytest.raises(RequestError, match=f"the NPU '{name}' is not known") as refused:
        npu_of(name)
    assert "hexagon-v75" in refused.value.hint
