"""Pictures: folders, preprocessing, probe pictures."""

from cloformer_deploy.data.folders import Batch, PictureFolder, open_folder
from cloformer_deploy.data.preprocessing import Preprocessing, load_picture
from cloformer_deploy.data.probe import probe_pictures

__all__ = ["Batch", "PictureFolder", "Preprocessing", "load_picture", "open_folder", "probe_pictures"]
