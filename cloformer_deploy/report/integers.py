"""Tables of a file's quantized tensors: scale, range and clipping of each activation, and a summary of constants."""

from collections.abc import Iterable, Sequence

from cloformer_deploy.backends.description import QuantizedTensor
from cloformer_deploy.report.cells import Rendered, add_row, new_table
from cloformer_deploy.system.text import counted

_NAME_WIDTH = 26


def integer_tables(tensors: Sequence[QuantizedTensor]) -> Rendered:
    """Yield a table with a row per activation, those clipped most first, and one with a row per type of constants."""
    activations = sorted((item for item in tensors if not item.constant), key=lambda item: -(item.clipped or 0))
    if activations:
        table = new_table("activation", "type", "scale", "zero", "low", "high", "clipped", numeric=(2, 3, 4, 5, 6))
        for item in activations:
            zero_point = "-" if item.zero_point is None else str(item.zero_point)
            told = (_scales([item]), zero_point, _number(item.low), _number(item.high), _share(item.clipped))
            add_row(table, _abridged(item.name), item.dtype, *told)
        yield table
    constants = [item for item in tensors if item.constant]
    if constants:
        table = new_table("constants", "tensors", "channels", "scale", "low", "high", numeric=(1, 2, 3, 4, 5))
        for dtype in dict.fromkeys(item.dtype for item in constants):
            alike = [item for item in constants if item.dtype == dtype]
            channels = f"{sum(item.channels for item in alike):,}"
            low = min((item.low for item in alike if item.low is not None), default=None)
            high = max((item.high for item in alike if item.high is not None), default=None)
            add_row(table, dtype, str(len(alike)), channels, _scales(alike), _number(low), _number(high))
        yield table


def integer_line(tensors: Sequence[QuantizedTensor]) -> str:
    """Return a summary in one sentence, without its period."""
    activations = [item for item in tensors if not item.constant]
    told = [counted(len(activations), "activation")] if activations else []
    told.append(counted(len(tensors) - len(activations), "constant"))
    text = f"integers in {' and '.join(told)}"
    most = max(activations, key=lambda item: item.clipped or 0, default=None)
    if most is None or most.clipped is None:
        return text
    return f"{text}; clipped most: {_share(most.clipped)} of {_abridged(most.name)}"


def _scales(tensors: Iterable[QuantizedTensor]) -> str:
    """Return the smallest and the largest scale, or the one that all have."""
    both = [item.scale for item in tensors if item.scale is not None]
    if not both:
        return "-"
    ends = min(low for low, _ in both), max(high for _, high in both)
    return "..".join(dict.fromkeys(map(_number, ends)))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2g}%"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _abridged(name: str) -> str:
    """Return a name, shortened in the middle if it is long, because names share beginnings and end in a number."""
    if len(name) <= _NAME_WIDTH:
        return name
    half = (_NAME_WIDTH - 3) // 2
    return f"{name[:half]}...{name[-half - 1 :]}"
