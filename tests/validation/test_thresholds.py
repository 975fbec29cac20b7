"""What an artifact must reach is laid down for every precision."""

from cloformer_deploy.backends.registry import PRECISIONS
from cloformer_deploy.validation import THRESHOLDS


def test_every_precision_has_thresholds() -> None:
    assert set(THRESHOLDS) == set(PRECISIONS)
    for limits in THRESHOLDS.values():
        assert 0.9 <= limits["top1_agreement"] < 1
        assert limits["sqnr_db"] > 10
