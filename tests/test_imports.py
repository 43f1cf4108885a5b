"""What imports what: no circular imports, and each subpackage imports only those below it."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {  # what the modules of a subpackage may import besides their own
    "core": {"backends"},  # net.py gets a backend by name
    "loops": {"core"},
    "backends": {"core", "loops"},
    "layers": {"core", "loops"},
    "data": {"core", "loops"},
    "train": {"core", "layers", "data", "backends"},
    "runs": {"core", "layers", "data", "backends", "train"},
    "view": {"core", "layers", "data", "train", "runs"},
    "report": {"core", "data", "backends", "train", "runs", "view"},
    "compare": {"core", "train", "runs", "view", "report"},
    "testing": {"core", "layers", "backends"},
    "bench": {"core", "layers", "data", "backends", "train"},
    "torch": {"core", "layers", "loops", "backends", "testing"},
    "onnx": {"core", "layers", "train", "runs"},
    "parallel": {"core", "layers", "train"},
    "cli": {
        "core",
        "layers",
        "data",
        "backends",
        "train",
        "runs",
        "view",
        "report",
        "compare",
        "testing",
        "bench",
        "loops",
        "torch",
        "onnx",
        "parallel",
        "emulator",
    },
    "emulator": {"core", "backends", "testing"},
}


def modules():
    """Yield every module of the package: its dotted name and its path."""
    for path in sorted((ROOT / "minet").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imports(text, known):
    """Yield the modules that a source imports: at the top, inside functions, or for types only."""
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
    """Return modules that import each other in a circle, or None."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_no_module_imports_another_in_a_circle():
    assert circle(GRAPH) is None


def test_a_circle_of_lazy_or_type_imports_is_found():
    known = ("a", "a.b", "a.c")
    lazy = {
        "a.b": set(imports("def f():\n from a import c", known)),
        "a.c": set(imports("import a.b", known)),
    }
    assert set(circle(lazy)) == {"a.b", "a.c"}
    typed = {"a.b": set(imports("if TYPE_CHECKING:\n from a.b import X", known))}
    assert circle(typed) == ["a.b", "a.b"]


COPIED = sorted(path for name in ("models", "examples", "templates") for path in ROOT.glob(f"{name}/**/*.py"))


def subpackage(module):
    """Return the first name below minet; empty for minet itself."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("name", ALLOWED)
def test_a_subpackage_imports_only_those_below_it(name):
    allowed = {name, "version", *ALLOWED[name]}
    assert [(module, other) for module in GRAPH if subpackage(module) == name
            for other in GRAPH[module] if subpackage(other) not in allowed] == []  # fmt: skip


def test_in_core_only_net_imports_backends():
    found = [
        name for name in GRAPH if subpackage(name) == "core" and "backends" in map(subpackage, GRAPH[name])
    ]
    assert found == ["minet.core.net"]


def test_every_module_is_in_a_subpackage():
    assert {subpackage(name) for name in MODULES} == {"", "__main__", "version", *ALLOWED}


def test_layer_containers_and_net_are_short_enough_to_read_at_once():
    lines = sum(
        len((ROOT / f"minet/core/{stem}.py").read_text().splitlines())
        for stem in ("layer", "containers", "net")
    )
    assert lines < 800


@pytest.mark.parametrize("name", ALLOWED)
def test_a_subpackage_has_tests(name):
    assert any((ROOT / "tests" / name).glob("test_*.py"))


@pytest.mark.parametrize("path", COPIED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_users_copy_import_public_names_only(path):
    assert set(imports(path.read_text(), MODULES)) <= {
        "minet",
        "minet.data",
        "minet.layers",
        "minet.loops",
        "minet.loops.simd.functions",
        "minet.testing",
    }
