"""Maps of classes as pictures."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloformer_deploy.data.masks import palette
from cloformer_deploy.tasks import Outputs


class Maps:
    """See `pictures.Drawing`."""

    title = "Maps"
    explanation = "Below each artifact's map, the pixels of another class than PyTorch's are white."
    first_color = 0

    def answer(self, image: Image.Image, outputs: Outputs) -> Image.Image:
        """See `Drawing.answer`."""
        return self.truth(image, _classes(outputs))

    def truth(self, image: Image.Image, truth: NDArray[Any]) -> Image.Image:
        """See `Drawing.truth`."""
        drawn = Image.fromarray(truth)
        drawn.putpalette(palette().tobytes())
        return drawn

    def difference(self, image: Image.Image, expected: Outputs, found: Outputs) -> Image.Image:
        """See `Drawing.difference`."""
        return Image.fromarray(_classes(found) != _classes(expected))

    def agreement(self, evidence: bytes) -> float:
        """See `Drawing.agreement`: the share of pixels."""
        from cloformer_deploy.tasks.pixels import unpacked

        counts = unpacked([evidence])
        return float(counts.same[0] / counts.total[0])


def _classes(outputs: Outputs) -> NDArray[np.uint8]:
    from cloformer_deploy.tasks.segmentation import LOGITS, classes_of

    return classes_of(outputs[LOGITS.name][0])
