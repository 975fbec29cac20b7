"""The limits that measurements have to hold, because the documents promise them.

Each benchmark ends with exit code 1 if a limit is not held: whoever measures anew and finds less has a regression to
explain, not a table to replace. A limit of something that was not measured (`--variant`) is left out.
"""

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer

from benchmarks.peers_standing import LOWERED as LOWERED_ONNX
from benchmarks.peers_standing import PLAIN, ahead, standings
from benchmarks.speedups import speedups

Measured = Mapping[str, Any]
LOWERED = (
    ("xxs", "onnxruntime", "onnxruntime plain", 1.06),
    ("s", "onnxruntime", "onnxruntime plain", 1.05),
    ("xxs", "litert", "litert plain", 1.22),
    ("s", "litert", "litert plain", 1.10),
    ("xxs", "litert", "onnxruntime plain", 1.0),
    ("s", "litert", "onnxruntime plain", 1.0),
    ("xxs", "onnxruntime", "openvino plain", 1.0),
)
"""Variant, candidate, baseline, and the least speedup with one thread."""
INT8 = (
    ("xxs-rendered", "litert int8", "litert", 1.85),
    ("s", "litert int8", "litert", 2.35),
    ("xxs-rendered", "onnxruntime int8", "onnxruntime", 1.35),
    ("s", "onnxruntime int8", "onnxruntime", 1.75),
    ("xxs-rendered", "litert int8", "onnxruntime plain", 2.15),
    ("s", "litert int8", "onnxruntime plain", 2.6),
)
"""The same, of int8 files."""
COREAI = {"fp32": (1.0, 115.0), "fp16": (0.998, 50.0)}
"""Least agreement and SQNR of files for Core AI, by precision."""
HEADS = (("xxs-scenes-segment", 0.15), ("xxs-scenes-detect", 0.15))
"""Weights, and the most that their head adds to the time of the body, as a share."""
INT8_WITH_HEAD = tuple((name, "int8", "float32", 1.7) for name, _ in HEADS)
"""Weights, candidate, baseline, and the least speedup."""
INTEGER_INSTRUCTIONS = "VNNI"
"""Instructions of the processors that the speedups of int8 are promised for."""
ESTIMATES = {
    ("xxs", "ethos-u55-256"): 78.0,
    ("xxs", "ethos-u65-512"): 46.0,
    ("xxs", "ethos-u85-1024"): 6.2,
    ("s", "ethos-u55-256"): 145.4,
    ("s", "ethos-u65-512"): 86.1,
    ("s", "ethos-u85-1024"): 12.2,
}
"""Most milliseconds that Vela may estimate, by variant and device."""
COSINES = {"int8": 0.999, "w8a16": 0.9999}
"""Least cosine of the outputs of Hexagon's simulator and ONNX Runtime's."""
SIMULATED = {"int8": 0.97, "w8a16": 0.99}
"""Least agreement of the simulator's classes with PyTorch's, on photographs."""
EVERYDAY = (
    ("export fp32", "bare converters", 1.15),
    ("export int8", "export fp32", 2.0),
    ("validate", "bare runtimes", 1 / 0.9),
)
"""Commands, what they are measured beside, and the most that they may take as its multiple."""
BLAME_S = 180.0
"""Most seconds that `blame` of an int8 file may take with its search for a fix."""
PEERS = tuple((variant, "onnxruntime", "onnxruntime plain", 1.02) for variant in ("xxs", "xs", "s"))
"""The same, measured beside the peers."""
AHEAD = {
    "xxs": {("efficientnet_b0", 224), ("efficientvit_b1", 224), ("mobilenetv4_conv_medium", 224)},
    "xs": {("efficientnet_b1", 240), ("efficientvit_b1", 288), ("mobilenetv4_hybrid_medium", 256)},
    "s": {("mobilenetv4_hybrid_medium", 320)},
}
"""Peers that are at least as fast and as accurate as a lowered CloFormer, by accuracies without a teacher."""
BEHIND_XS = {"mobilevit_s", "mobilevitv2_100", "mobileone_s3", "edgenext_small_rw", "tiny_vit_5m_224"}
"""Peers that are slower and less accurate than the lowered xs."""
FASTER_IN_INT8 = {"shufflenet_v2_x2_0", "mobilenetv4_conv_medium", "efficientnet_b0", "efficientvit_b1"}
SLOWER_IN_INT8 = {"edgevit_xxs", "mobilevit_xs"}
"""Peers whose int8 files are faster or slower than that of xxs."""
PHOTOGRAPHS = {"tflite": 0.99, "onnx": 0.985, "coreml": 0.985}
"""Least agreement of int8 files on photographs."""


def enforce(check: Callable[[Measured], Iterator[str]], measured: Measured) -> None:
    """Name the limits that a measurement does not hold on standard error, and exit with 1 if there are any."""
    broken = list(check(measured))
    for line in broken:
        print(f"limit not held: {line}", file=sys.stderr)
    if broken:
        raise typer.Exit(1)


def at_most(what: str, value: float, limit: float) -> Iterator[str]:
    """Yield a line if the value is above the limit, or not a number."""
    if not value <= limit:
        yield f"{what} is {value:.4g}, above {limit:g}"


def at_least(what: str, value: float, limit: float) -> Iterator[str]:
    """Yield a line if the value is below the limit, or not a number."""
    if not value >= limit:
        yield f"{what} is {value:.4g}, below {limit:g}"


def latency(measured: Measured) -> Iterator[str]:
    """Check what `latency.py` measured."""
    yield from _speed(measured, LOWERED)


def peers(measured: Measured) -> Iterator[str]:
    """Check what `peers.py` measured: the gain by lowering, and what `docs/peers.md` says in words."""
    yield from _speed(measured, PEERS)
    found = standings(measured)
    lowered = {item.variant: item for item in found if item.cloformer and item.candidate == LOWERED_ONNX}
    for variant, rivals in AHEAD.items():
        names = {(peer.variant, peer.side) for peer in ahead(lowered[variant], found, teachers=False)}
        yield from (f"{name} at {side} px is not ahead of {variant}" for name, side in sorted(rivals - names))
        if variant == "s":
            yield from (f"{name} at {side} px is ahead of s too" for name, side in sorted(names - rivals))
    xs = lowered["xs"]
    behind = {item.variant for item in found if item.ms > xs.ms and (item.top1 or 100) < (xs.top1 or 0)}
    yield from (f"{name} is not behind xs" for name in sorted(BEHIND_XS - behind))
    rates = {item.variant: (item.macs or 0) / item.ms for item in found if item.candidate in (PLAIN, LOWERED_ONNX)}
    own = (lowered["xxs"].macs or 0) / lowered["xxs"].ms
    yield from at_most("multiply-accumulates per ms of EfficientNet-B0 over xxs", rates["efficientnet_b0"] / own, 1)
    rows = [*measured["results"], *measured["deployed"]]
    int8_ms = {row["variant"]: row["ms"] for row in rows if row["candidate"] == "litert int8"}
    for name in FASTER_IN_INT8:
        yield from at_most(f"ms of {name} in int8 over xxs", int8_ms[name] / int8_ms["xxs"], 1)
    for name in SLOWER_IN_INT8:
        yield from at_least(f"ms of {name} in int8 over xxs", int8_ms[name] / int8_ms["xxs"], 1)


def int8(measured: Measured) -> Iterator[str]:
    """Check what `int8.py` measured."""
    for model in measured["accuracy"]:
        weights = model["weights"]
        rows = [row for row in model["artifacts"] if row["precision"] == "int8"]
        yield from at_least(f"{weights}: number of int8 files", len(rows), 3)
        for row in rows:
            what = f"{weights} {row['format']} int8:"
            yield from at_most(f"{what} size of that of fp32", row["size_ratio"], 0.37)
            if model["images"] == "drift224":
                yield from at_most(f"{what} top-1 drop in pp", row["drop_pp"], 0.4)
                yield from at_least(f"{what} agreement", row["agreement"], PHOTOGRAPHS[row["format"]])
            else:
                low, high = row["drop_ci95_pp"]
                yield from at_most(f"{what} top-1 drop in pp", row["drop_pp"], 0.25)
                yield from at_most(f"{what} upper bound of the drop in pp", high, 0.5)
                yield from at_least(f"{what} lower bound of the drop in pp", low, -0.5)
        for pair, share in model["int8_agreement"].items():
            yield from at_least(f"{weights}: agreement of int8 files of {pair}", share, 0.98)
    yield from _int8_speed(measured, INT8)


def heads(measured: Measured) -> Iterator[str]:
    """Check what `heads.py` measured."""
    known = {item["variant"] for item in measured["results"]}
    for name, most in HEADS:
        if name in known:
            ratio = statistics.median(speedups(measured, name, 1, "body", "float32"))
            yield from at_most(f"{name}: share that the head adds", ratio - 1, most)
    yield from _int8_speed(measured, INT8_WITH_HEAD)


def npus(measured: Measured) -> Iterator[str]:
    """Check what `npus.py` measured."""
    for row in measured["compiled"]:
        what = f"{row['variant']} {row['precision']} on {row['device']}:"
        yield from at_most(f"{what} operators on the CPU", row["left_on_cpu"], 0)
        limit = ESTIMATES.get((row["variant"], row["device"]))
        if limit is not None:
            yield from at_most(f"{what} estimated ms", row["estimated_ms"], limit)
    for run in measured["simulated"]:
        what = f"{run['variant']} {run['precision']} in the simulator:"
        yield from at_least(f"{what} cosine to ONNX Runtime", run["cosine"], COSINES[run["precision"]])
        if run["agreement"] is not None:
            yield from at_least(f"{what} agreement", run["agreement"], SIMULATED[run["precision"]])


def everyday(measured: Measured) -> Iterator[str]:
    """Check what `everyday.py` measured, as far as it is promised."""
    taken = {name: statistics.median(values) for name, values in measured["seconds"].items()}
    for name, other, most in EVERYDAY:
        yield from at_most(f"{name} over {other}", taken[name] / taken[other], most)
    yield from at_most("seconds of blame", taken["blame int8"], BLAME_S)


def coreai(measured: Measured) -> Iterator[str]:
    """Check what `core_ai.py` measured."""
    rows = {(row["variant"], row["format"], row["precision"]): row for row in measured["judged"]}
    for (variant, name, precision), row in rows.items():
        what, least = f"{variant} {name} {precision}:", COREAI.get(precision)
        if name == "coreai" and least is not None:
            yield from at_least(f"{what} agreement", row["agreement"], least[0])
            yield from at_least(f"{what} SQNR, dB", row["sqnr_db"], least[1])
    both = [rows.get(("xxs", name, "int8")) for name in ("coreai", "coreml")]
    if both[0] and both[1]:
        apart = abs(both[0]["top1"] - both[1]["top1"])
        yield from at_most("top-1 of int8 beside Core ML's, percentage points", 100 * apart, 0.2)


def suppression(measured: Measured) -> Iterator[str]:
    """Check what `suppression.py` measured."""
    yield from at_least("number of files", len(measured["shares"]), 3)
    for share in measured["shares"]:
        yield from at_least("share of the same detections", share, 0.999)


def gate(measured: Measured) -> Iterator[str]:
    """Check what `gate.py` measured."""
    cost, alarms = measured["cost"], measured["alarms"]
    yield from at_most("the gate's time over that of inference alone", cost["ratio"], 1.3)
    yield from at_most("seconds of a second run", cost["again_s"], 5)
    yield from at_most(f"false alarms in {alarms['trials']} trials", alarms["alarms"], 0.02 * alarms["trials"])


def planted(measured: Measured) -> Iterator[str]:
    """Check what `planted.py` measured."""
    for fault in measured["faults"]:
        if not fault["caught"]:
            yield f"{fault['name']} is not caught"
        if fault["kind"] in ("preprocessing", "labels", "outputs") and not fault["named"]:
            yield f"{fault['name']} is not named"
        if fault["kind"] == "layer" and fault["said"]:
            yield f"{fault['name']} is a fault of a layer and named {fault['said']}"
    for item in measured["healthy"]:
        if item["caught"] or item["said"]:
            yield f"the healthy {item['format']} {item['precision']} fails, or is named {item['said']}"
    layers = [fault for fault in measured["faults"] if fault["kind"] == "layer"]
    if any(fault["blamed"] is not None for fault in layers):
        share = statistics.mean(bool(fault["named"]) for fault in layers)
        yield from at_least("share of spoilt layers that blame puts first", share, 0.9)


def _int8_speed(measured: Measured, limits: tuple[tuple[str, str, str, float], ...]) -> Iterator[str]:
    instructions = measured["machine"]["instructions"]
    if INTEGER_INSTRUCTIONS in instructions:
        yield from _speed(measured, limits)
    else:
        yield (
            f"speedups of int8 are promised for processors with {INTEGER_INSTRUCTIONS}; this one has {instructions}, "
            "so they remain unchecked"
        )


def _speed(measured: Measured, limits: tuple[tuple[str, str, str, float], ...]) -> Iterator[str]:
    found = {(item["variant"], item["threads"], item["candidate"]) for item in measured["results"]}
    for variant, candidate, baseline, limit in limits:
        if {(variant, 1, candidate), (variant, 1, baseline)} <= found:
            ratio = statistics.median(speedups(measured, variant, 1, candidate, baseline))
            yield from at_least(f"speedup of {candidate} over {baseline}, {variant}", ratio, limit)
