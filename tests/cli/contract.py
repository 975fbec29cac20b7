"""The contract of the JSON answers, key by key."""

from typing import Any

from tests.cli.command_line import invoke, parsed

TENSOR = {"name": str, "shape": [(int, str)], "dtype": str}
ARTIFACT = {
    "path": str,
    "format": str,
    "precision": str,
    "target": str,
    "sha256": str,
    "bytes": int,
    "input": {"kind": str, "batch": (int, str)},
    "outputs": [TENSOR],
    "options": {},
    "created_with": {},
    "calibration": (None,),
    "excluded_layers": [str],
    "npus": (None,),
}
QUANTIZED = {
    "name": str,
    "dtype": str,
    "constant": bool,
    "scale": ([float], None),
    "channels": int,
    "zero_point": (int, None),
    "low": (float, None),
    "high": (float, None),
    "clipped": (float, None),
}
DESCRIPTION = {
    "format": str,
    "precision": (str, None),
    "inputs": [TENSOR],
    "outputs": [TENSOR],
    "operators": {},
    "graph": {"transposes": int, "max_rank": int, "parameters": int, "macs": (int, None)},
    "bytes": int,
    "metadata": {},
    "quantized": [QUANTIZED],
    "problem": (str, None),
}
XNNPACK = {"partitions": int, "undelegated": {}}
FLOAT16 = {"images": int, "overflows": [str], "subnormal_constants": [str], "overflowing_sums": [str]}
MANIFEST = {
    "schema_version": int,
    "tool_version": str,
    "task": str,
    "network": str,
    "variant": str,
    "architecture": {
        "in_chans": int,
        "num_classes": int,
        "embed_dims": [int],
        "depths": [int],
        "num_heads": [int],
        "group_splits": [[int]],
        "kernel_sizes": [[int]],
        "window_sizes": [int],
        "mlp_kernel_sizes": [int],
        "mlp_ratios": [int],
        "qkv_bias": bool,
    },
    "assumed": [str],
    "labels": [str],
    "weights": {"name": str, "sha256": str},
    "preprocessing": {"height": int, "width": int, "mean": [float], "std": [float], "resize": {}},
    "artifacts": [ARTIFACT],
}
VERDICT = {
    "path": str,
    "format": str,
    "precision": str,
    "target": str,
    "runtime": str,
    "status": str,
    "n": int,
    "score": (float, None),
    "drop_pp": (float, None),
    "drop_ci95_pp": ([float], None),
    "agreement": (float, None),
    "max_abs_diff": (float, None),
    "sqnr_db": (float, None),
    "cosine_min": (float, None),
    "thresholds": {},
    "failures": [str],
    "undecided": [str],
}
VALIDATION = {
    "schema_version": int,
    "images": str,
    "task": str,
    "metric": str,
    "reference": {"runtime": str, "n": int, "score": (float, None)},
    "artifacts": [VERDICT],
}
PART = {"name": str, "ready": bool, "detail": str, "remedy": str}


def fits(value: Any, wanted: Any, place: str = "answer") -> None:
    """Check keys and types: a type, None, a tuple of alternatives, a list of one kind, a dictionary by key."""
    if isinstance(wanted, dict):
        assert isinstance(value, dict), place
        assert set(wanted) <= set(value), f"{place} lacks {set(wanted) - set(value)}"
        for key, inner in wanted.items():
            fits(value[key], inner, f"{place}.{key}")
    elif isinstance(wanted, list):
        assert isinstance(value, list), place
        for index, item in enumerate(value):
            fits(item, wanted[0], f"{place}.{index}")
    elif isinstance(wanted, tuple):
        simple = [type(None) if one is None else list if isinstance(one, list) else one for one in wanted]
        assert type(value) in simple, f"{place} is {value!r}"
        for one in wanted:
            if isinstance(one, list) and isinstance(value, list):
                fits(value, one, place)
    else:
        assert type(value) is wanted, f"{place} is {value!r}"


def validated(*args: str, code: int) -> Any:
    """Return the answer of `validate bundle`, checked against the contract and an exit code."""
    shown = invoke("validate", "bundle", "--json", *args)
    assert shown.code == code, shown.said
    answer = parsed(shown.stdout)
    fits(answer, VALIDATION)
    assert answer["schema_version"] == 1
    assert (answer["task"], answer["metric"]) == ("classification", "top1")
    assert answer["reference"]["runtime"] == "pytorch"
    return answer
