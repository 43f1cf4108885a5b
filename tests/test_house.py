"""The house: what imports what. No module imports another in a circle, and rooms import downwards only."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {  # what the modules of a room may import beside their own
    "core": {"backends"},  # net.py asks for a backend by its name
    "loops": {"core"},
    "backends": {"core", "loops"},
    "layers": {"core", "loops"},
    "data": {"core", "loops"},
    "train": {"core", "layers", "data", "backends"},
    "testing": {"core", "layers", "backends"},
    "bench": {"core", "layers", "data", "backends", "train"},
    "cli": {"core", "layers", "data", "backends", "train", "testing", "bench", "loops"},
}


def modules():
    """Every module of the package by its dotted name."""
    for path in sorted((ROOT / "minet").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imports(text, known):
    """The modules that a source imports, at its top, in its functions, and for types alone."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield from [inside] if inside in known else [node.module] if node.module in known else []


GRAPH = {name: set(imports(path.read_text(), MODULES)) for name, path in MODULES.items()}


def circle(graph):
    """Modules that import one another in a circle; none if there is no such circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_no_module_imports_another_in_a_circle():
    assert circle(GRAPH) is None


def test_a_circle_is_found_lazy_or_for_types():
    known = ("a", "a.b", "a.c")
    lazy = {
        "a.b": set(imports("def f():\n from a import c", known)),
        "a.c": set(imports("import a.b", known)),
    }
    assert set(circle(lazy)) == {"a.b", "a.c"}
    typed = {"a.b": set(imports("if TYPE_CHECKING:\n from a.b import X", known))}
    assert circle(typed) == ["a.b", "a.b"]


def room(module):
    """The first name below minet; empty for minet itself."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_downwards_only(name):
    allowed = {name, "version", *ROOMS[name]}
    assert [(module, other) for module in GRAPH if room(module) == name
            for other in GRAPH[module] if room(other) not in allowed] == []  # fmt: skip


def test_in_core_the_net_alone_knows_of_backends():
    found = [name for name in GRAPH if room(name) == "core" and "backends" in map(room, GRAPH[name])]
    assert found == ["minet.core.net"]


def test_every_module_is_in_a_room():
    assert {room(name) for name in MODULES} == {"", "__main__", "version", *ROOMS}


def test_layer_containers_and_net_read_in_one_sitting():
    lines = sum(
        len((ROOT / f"minet/core/{stem}.py").read_text().splitlines())
        for stem in ("layer", "containers", "net")
    )
    assert lines < 800


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_has_its_tests(name):
    assert any((ROOT / "tests" / name).glob("test_*.py"))
