"""A hypothesis strategy of logits near to and far from PyTorch's."""

import numpy as np
from hypothesis import strategies as st

from tests.tasks.comparing import Labels, Logits


@st.composite
def cases(draw: st.DrawFn, *, broken: bool = True, min_classes: int = 1) -> tuple[Logits, Logits, Labels]:
    """Return PyTorch's logits, logits near to them or far from them, some with NaN or infinity, and labels."""
    images, classes = draw(st.integers(1, 12)), draw(st.integers(min_classes, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    reference = rng.normal(0, draw(st.sampled_from([0.01, 1.0, 100.0])), (images, classes)).astype(np.float32)
    noise = draw(st.sampled_from([0.0, 1e-4, 0.3, 30.0]))
    logits = (reference + rng.normal(0, noise, reference.shape)).astype(np.float32)
    if broken:
        for side in (reference, logits):
            for row in draw(st.sets(st.integers(0, images - 1), max_size=2)):
                side[row, draw(st.integers(0, classes - 1))] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return reference, logits, rng.integers(0, classes, images)
