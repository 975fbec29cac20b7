"""Bundles: the folder an export writes, and its manifest."""

from cloformer_deploy.bundle.bundle import Bundle, BundleWriter, digest, size_bytes
from cloformer_deploy.bundle.manifest import MANIFEST_NAME

__all__ = ["MANIFEST_NAME", "Bundle", "BundleWriter", "digest", "size_bytes"]
