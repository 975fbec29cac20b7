"""Latency, on this machine and on devices: the measuring protocol, and what measures where."""

from cloformer_deploy.bench.results import Conditions, Result, Source, keep_results, read_results

__all__ = ["Conditions", "Result", "Source", "keep_results", "read_results"]
