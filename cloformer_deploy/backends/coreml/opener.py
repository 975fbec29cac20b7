"""Opens Core ML packages on a Mac for `bench`; stand-alone, for Python 3.8 and later (see `backends.base.Opener`)."""

# ruff: noqa: UP006, UP035, UP045 - Python 3.8 has no `dict[str, Any]` or `str | None`
from typing import Any, Callable, Dict, Optional


def open_file(path: str, threads: int, unit: Optional[str]) -> Callable[[Dict[str, Any]], Dict[str, Any]]:  # noqa: ARG001
    """Load a package for a compute unit; the returned function takes and gives arrays by name."""
    import coremltools
    import numpy
    from PIL import Image

    model = coremltools.models.MLModel(path, compute_units=coremltools.ComputeUnit[unit or "ALL"])
    described = model.get_spec().description.input
    images = {item.name for item in described if item.type.WhichOneof("Type") == "imageType"}

    def run(feed: Dict[str, Any]) -> Dict[str, Any]:
        given = {
            name: Image.fromarray(values[0].transpose(1, 2, 0)) if name in images else values
            for name, values in feed.items()
        }
        found = model.predict(given)
        return {name: values for name, values in found.items() if isinstance(values, numpy.ndarray)}

    return run
