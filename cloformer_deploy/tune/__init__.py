"""`tune`: search, by measuring on a device, the choices that make the fastest files there within an accuracy limit."""

from cloformer_deploy.tune.search import Tuned, TuneRequest, tune

__all__ = ["TuneRequest", "Tuned", "tune"]
