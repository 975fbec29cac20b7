"""Images: folders, the rendered data set, preprocessing and calibration sets."""

from cloformer_deploy.data.batches import Batch, Dataset, ImageSet
from cloformer_deploy.data.calibration import CalibrationSet, bundled_calibration, open_calibration
from cloformer_deploy.data.calibration_making import MadeCalibration, make_calibration
from cloformer_deploy.data.calibration_manifest import image_digest
from cloformer_deploy.data.coco import BoxFolder, open_coco
from cloformer_deploy.data.folders import ImageFolder, open_folder, open_images
from cloformer_deploy.data.masks import MaskFolder, open_masks
from cloformer_deploy.data.preprocessing import Preprocessing, load_image
from cloformer_deploy.data.rendered import RenderedImages, RenderedScenes, probe_images

__all__ = [
    "Batch",
    "BoxFolder",
    "CalibrationSet",
    "Dataset",
    "ImageFolder",
    "ImageSet",
    "MadeCalibration",
    "MaskFolder",
    "Preprocessing",
    "RenderedImages",
    "RenderedScenes",
    "bundled_calibration",
    "image_digest",
    "load_image",
    "make_calibration",
    "open_calibration",
    "open_coco",
    "open_folder",
    "open_images",
    "open_masks",
    "probe_images",
]
