"""cuBLAS through the real scikit-cuda, on a double of the library that multiplies in plain loops."""

import pytest
from test_cuda import case, on_double

__all__ = ["case"]


@on_double
@pytest.mark.parametrize("name", ["products", "tf32", "patched", "from_wheels"])
def test_products(case, name):
    case(name)


@on_double
def test_scikit_cuda_is_silent_when_it_is_first_compiled(case, tmp_path):
    """It holds an invalid escape sequence: a warning of Python 3.12, and here any warning is an error."""
    case("patched", PYTHONPYCACHEPREFIX=tmp_path / "bytecode")
