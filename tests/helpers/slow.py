"""A case of a test that only `make test-all` runs."""

import pytest


def slow(*values, **options):
    """``pytest.param`` of a case that only `make test-all` runs."""
    return pytest.param(*values, marks=pytest.mark.slow, **options)
