"""Targets of Core AI assets: the Neural Engine, with the rewrites and recipes of Core ML's."""

from collections.abc import Mapping

from cloformer_deploy.backends.coreml.targets import TARGETS as COREML_TARGETS
from cloformer_deploy.backends.target import Target

TARGETS: Mapping[str, Target] = {"ane": COREML_TARGETS["ane"]}
