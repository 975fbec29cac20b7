"""Rendered data sets: images of 20 classes and scenes of several objects, each drawn from a split and an index."""

from cloformer_deploy.data.rendered.drawing import SIZE, SPLITS, VERSION, label, render
from cloformer_deploy.data.rendered.images import RenderedImages, probe_images
from cloformer_deploy.data.rendered.objects import CLASSES
from cloformer_deploy.data.rendered.scene_images import RenderedScenes
from cloformer_deploy.data.rendered.scenes import SCENE_CLASSES, render_scene

__all__ = [
    "CLASSES",
    "SCENE_CLASSES",
    "SIZE",
    "SPLITS",
    "VERSION",
    "RenderedImages",
    "RenderedScenes",
    "label",
    "probe_images",
    "render",
    "render_scene",
]
