"""Tests of kernels in every order and under the sanitizers: ``pytest_plugins = ["minet.emulator.pytest"]``.

A test with the marker runs once for each order of threads and blocks, and once under the sanitizers:

    @pytest.mark.emulator(allow=("same_value_writes",))
    def test_add(): ...

It may name fewer: ``orders=("forward",)``, ``sanitize=False``. What a test passes to `RawKernel.check` itself
comes first.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from minet.backends.emulator import ORDERS
from minet.emulator.settings import Settings, checked, under

MARKER = "emulator(orders=..., sanitize=True, allow=()): run in these orders of threads, and under sanitizers"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("emulator")
    if marker is None:
        return
    names, ways = _ways(*marker.args, **marker.kwargs)
    metafunc.parametrize("emulator_settings", ways, indirect=True, ids=names)


def _ways(
    orders: str | tuple[str, ...] = ORDERS, sanitize: bool = True, allow: str | tuple[str, ...] = ()
) -> tuple[list[str], list[Settings]]:
    """The ways in which a test runs, with their names."""
    each = [orders] if isinstance(orders, str) else list(orders)
    ways = [checked(order, False, allow) for order in each]
    if sanitize:
        return [*each, "sanitized"], [*ways, checked(each[0] if each else None, True, allow)]
    return each, ways


@pytest.fixture(autouse=True)
def emulator_settings(request: pytest.FixtureRequest) -> Iterator[Settings]:
    """How the kernels of a test run; a test without the marker decides itself."""
    settings = getattr(request, "param", Settings())
    with under(settings):
        yield settings
