"""What all tests share: two threads at least; few examples of hypothesis, always the same; the backends."""

import os

import pytest
from hypothesis import settings

# Read when Numba is imported. On one core too, a sum whose order depends on the threads must be caught.
os.environ["NUMBA_NUM_THREADS"] = str(max(2, os.cpu_count() or 1))

settings.register_profile("minet", derandomize=True, deadline=None, max_examples=20, database=None)
settings.load_profile("minet")


def there(name):
    from minet import backends

    if why := backends.missing(name):
        pytest.skip(why)
    return name


@pytest.fixture(params=["cpu", "emu", pytest.param("cuda", marks=pytest.mark.gpu)])
def backend(request):
    """Every backend by its name; where it cannot be used, the test is skipped."""
    return there(request.param)


@pytest.fixture(params=["emu", pytest.param("cuda", marks=pytest.mark.gpu)])
def gpu_backend(request):
    """Those that run CUDA kernels."""
    return there(request.param)
