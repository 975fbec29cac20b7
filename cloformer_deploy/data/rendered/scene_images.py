"""A range of the rendered scenes as an image set with masks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.data.batches import Batch, batches_of
from cloformer_deploy.data.preprocessing import Preprocessing, fit
from cloformer_deploy.data.rendered.scenes import SCENES_VERSION, Scene, render_scene


@dataclass(frozen=True)
class RenderedScenes:
    """Scenes of one split; see `Dataset`. They are rendered at the model's input size.

    Attributes:
        split: one of `drawing.SPLITS`.
        indices: of the scenes in the split; not empty.
        targets: masks of `SCENE_CLASSES`, boxes of `CLASSES`, or None, for models with other classes.
        warnings: for the user.
        labels: None: a scene has no single class.
    """

    split: str
    indices: Sequence[int]
    targets: Literal["masks", "boxes"] | None = "masks"
    warnings: tuple[str, ...] = ()
    labels: None = None

    @property
    def has_targets(self) -> bool:
        """True with masks or boxes."""
        return self.targets is not None

    @property
    def name(self) -> str:
        """Split and range, such as `rendered scenes test 0-499`."""
        return f"rendered scenes {self.split} {self.indices[0]}-{self.indices[-1]}"

    def __len__(self) -> int:
        return len(self.indices)

    def identity(self, index: int) -> str:
        """Return version, split and index, which determine the pixels of each size on every machine."""
        return f"rendered scenes {SCENES_VERSION} {self.split} {self.indices[index]}"

    def select(self, indices: Sequence[int]) -> "RenderedScenes":
        """Return a set of the scenes at these places of `indices`, in this order."""
        return replace(self, indices=[self.indices[index] for index in indices])

    def limited(self, max_images: int | None) -> "RenderedScenes":
        """Return exactly `max_images` consecutive scenes from the first index on; all scenes if it is None."""
        if max_images is None:
            return self
        return replace(self, indices=range(self.indices[0], self.indices[0] + max_images))

    def load(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return one scene at the model's input size, uint8 (C, H, W); see `Dataset.load`."""
        return fit(Image.fromarray(self._scene(index, preprocessing).pixels), preprocessing)

    def truth(self, index: int, preprocessing: Preprocessing) -> NDArray[Any] | None:
        """Return the class of each pixel of a scene, or its objects; see `Dataset.truth`."""
        if self.targets == "masks":
            return self._scene(index, preprocessing).mask
        return self._scene(index, preprocessing).boxes if self.targets == "boxes" else None

    def batches(self, preprocessing: Preprocessing, size: int) -> Iterator[Batch]:
        """Yield all scenes in order; see `ImageSet.batches`."""
        return batches_of(self, preprocessing, size)

    def _scene(self, index: int, preprocessing: Preprocessing) -> Scene:
        return render_scene(self.split, self.indices[index], preprocessing.height, preprocessing.width)
