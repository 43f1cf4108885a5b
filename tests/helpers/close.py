"""Comparison to rounding, in whatever type a result has."""

import numpy as np


def assert_close(got, expected, float64=1e-12, float32=1e-5, what=""):
    """Fail unless all elements agree to that share of themselves or of the largest finite one."""
    tolerance, expected = (
        {"float64": float64, "float32": float32}[str(got.dtype)],
        np.asarray(expected, float),
    )
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * largest, err_msg=what)
