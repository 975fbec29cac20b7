"""Opens Core AI assets on a Mac for `bench`; stand-alone, for Python 3.8 and later (see `backends.base.Opener`)."""

# ruff: noqa: UP006, UP035, UP045 - Python 3.8 has no `dict[str, Any]` or `str | None`
import asyncio
from typing import Any, Callable, Dict, Optional


def open_file(path: str, threads: int, unit: Optional[str]) -> Callable[[Dict[str, Any]], Dict[str, Any]]:  # noqa: ARG001
    """Load an asset; the returned function takes and gives arrays by name."""
    from coreai import runtime

    if not runtime._use_os_coreai:
        raise RuntimeError("this system has no Core AI, only the package's interpreter, whose times say nothing")
    loop = asyncio.new_event_loop()
    model = loop.run_until_complete(runtime.AIModel.load(path))
    function = model.load_function("main")

    async def call(feed: Dict[str, Any]) -> Dict[str, Any]:
        return dict(await function({name: runtime.NDArray(values) for name, values in feed.items()}))

    def run(feed: Dict[str, Any]) -> Dict[str, Any]:
        return {name: values.numpy() for name, values in loop.run_until_complete(call(feed)).items()}

    return run
