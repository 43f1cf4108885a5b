"""docs/reference: every public name has its place there, and every entry exists."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

import minet
import minet.backends
import minet.data
import minet.layers
import minet.testing

PAGES = sorted((Path(__file__).parents[1] / "docs/reference").glob("*.md"))
if not importlib.util.find_spec("torch"):  # whose room cannot be imported then
    PAGES = [page for page in PAGES if page.name != "doors.md"]
ENTRIES = [entry for page in PAGES for entry in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)]


def found(entry):
    """Return what an entry names: a module, or a name in one."""
    try:
        return importlib.import_module(entry)
    except ImportError:
        module, _, name = entry.rpartition(".")
        return getattr(importlib.import_module(module), name)


DESCRIBED = [found(entry) for entry in ENTRIES]
ROOMS = (minet.data, minet.testing, minet.backends)
PUBLIC = {
    **{name: getattr(minet, name) for name in minet.__all__},
    **{cls.__name__: cls for cls in minet.layers.all_layers()},
    **{name: getattr(room, name) for room in ROOMS for name in room.__all__},
}


CONSTANTS = {name for name, value in PUBLIC.items() if isinstance(value, (str, tuple, dict))}


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - CONSTANTS))
def test_a_public_name_is_described(name):
    value = PUBLIC[name]
    module = getattr(value, "__module__", "")  # a page may describe a whole module
    assert any(entry is value or getattr(entry, "__name__", "") == module for entry in DESCRIBED)
