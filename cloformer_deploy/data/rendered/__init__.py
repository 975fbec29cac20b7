"""The rendered data set: labeled images of 20 classes, any number of them, each drawn from a split and an index."""

from cloformer_deploy.data.rendered.drawing import CLASSES, SIZE, SPLITS, VERSION, label, render
from cloformer_deploy.data.rendered.images import RenderedImages, probe_images

__all__ = ["CLASSES", "SIZE", "SPLITS", "VERSION", "RenderedImages", "label", "probe_images", "render"]
