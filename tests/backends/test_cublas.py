"""cuBLAS through the real scikit-cuda, on a double of the library that multiplies in plain loops."""

import pytest
from test_cuda import case, doubles, on_double

__all__ = ["case", "doubles"]


@on_double
@pytest.mark.parametrize("name", ["products", "tf32", "patched", "from_wheels"])
def test_products(case, name):
    case(name)
