"""Pictures: folders, the rendered task, preprocessing, calibration sets."""

from cloformer_deploy.data.batches import Batch, KnownPictures, Pictures
from cloformer_deploy.data.calibration import CalibrationSet, default_calibration, open_calibration
from cloformer_deploy.data.calibration_making import MadeCalibration, make_calibration
from cloformer_deploy.data.calibration_manifest import picture_digest
from cloformer_deploy.data.folders import PictureFolder, open_folder
from cloformer_deploy.data.preprocessing import Preprocessing, load_picture
from cloformer_deploy.data.rendered import RenderedPictures, probe_pictures

__all__ = [
    "Batch",
    "CalibrationSet",
    "KnownPictures",
    "MadeCalibration",
    "PictureFolder",
    "Pictures",
    "Preprocessing",
    "RenderedPictures",
    "default_calibration",
    "load_picture",
    "make_calibration",
    "open_calibration",
    "open_folder",
    "picture_digest",
    "probe_pictures",
]
