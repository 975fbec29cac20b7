"""The rendered task: as many labelled pictures as one wants, of 20 classes, from nothing but a split and an index."""

from cloformer_deploy.data.rendered.picture import CLASSES, SIZE, SPLITS, VERSION, label, render
from cloformer_deploy.data.rendered.pictures import RenderedPictures, probe_pictures

__all__ = ["CLASSES", "SIZE", "SPLITS", "VERSION", "RenderedPictures", "label", "probe_pictures", "render"]
