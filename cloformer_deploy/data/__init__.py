"""Pictures: folders, the rendered task, preprocessing, calibration sets."""

from cloformer_deploy.data.batches import Batch, Pictures
from cloformer_deploy.data.calibration import CalibrationSet, default_calibration
from cloformer_deploy.data.folders import PictureFolder, open_folder
from cloformer_deploy.data.preprocessing import Preprocessing, load_picture
from cloformer_deploy.data.rendered import RenderedPictures, probe_pictures

__all__ = [
    "Batch",
    "CalibrationSet",
    "PictureFolder",
    "Pictures",
    "Preprocessing",
    "RenderedPictures",
    "default_calibration",
    "load_picture",
    "open_folder",
    "probe_pictures",
]
