"""A failing assertion in the helper module explains itself, as it would in a test."""

import pytest

pytest.register_assert_rewrite("tests.weights.weights_files")
