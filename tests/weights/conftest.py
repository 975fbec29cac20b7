"""Shows the values of failing assertions in the helper module, as in a test."""

import pytest

pytest.register_assert_rewrite("tests.weights.weights_files")
