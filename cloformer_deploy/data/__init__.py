"""Images: folders, the rendered data set, preprocessing and calibration sets."""

from cloformer_deploy.data.batches import Batch, Dataset, ImageSet
from cloformer_deploy.data.calibration import CalibrationSet, default_calibration, open_calibration
from cloformer_deploy.data.calibration_making import MadeCalibration, make_calibration
from cloformer_deploy.data.calibration_manifest import image_digest
from cloformer_deploy.data.folders import ImageFolder, open_folder, open_images
from cloformer_deploy.data.preprocessing import Preprocessing, load_image
from cloformer_deploy.data.rendered import RenderedImages, probe_images

__all__ = [
    "Batch",
    "CalibrationSet",
    "Dataset",
    "ImageFolder",
    "ImageSet",
    "MadeCalibration",
    "Preprocessing",
    "RenderedImages",
    "default_calibration",
    "image_digest",
    "load_image",
    "make_calibration",
    "open_calibration",
    "open_folder",
    "open_images",
    "probe_images",
]
