"""Latency on this machine and on devices: the measurement protocol, the devices and the results."""

from cloformer_deploy.bench.measure import Bench, bench
from cloformer_deploy.bench.protocol import MLPERF, Protocol
from cloformer_deploy.bench.results import Conditions, Result, Source, keep_results, read_results

__all__ = ["MLPERF", "Bench", "Conditions", "Protocol", "Result", "Source", "bench", "keep_results", "read_results"]
