"""Bundles: the folder that an export writes, and its manifest."""

from cloformer_deploy.bundle.bundle import Bundle, size_bytes
from cloformer_deploy.bundle.listed import ListedFiles, digest
from cloformer_deploy.bundle.manifest import MANIFEST_NAME
from cloformer_deploy.bundle.writer import BundleWriter

__all__ = ["MANIFEST_NAME", "Bundle", "BundleWriter", "ListedFiles", "digest", "size_bytes"]
