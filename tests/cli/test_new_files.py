"""How a command is printed so that it can be typed here."""

import sys

import pytest

from minet.cli.new_files import class_name, command


@pytest.fixture
def bin(tmp_path, monkeypatch):
    """The folder of the running Python, empty, in the current folder and not on PATH."""
    folder = tmp_path / "my env/bin"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", "/usr/bin")
    return folder


def program(path):
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


def test_a_program_on_path_goes_by_its_name(bin, monkeypatch):
    program(bin / "pytest")
    monkeypatch.setenv("PATH", f"/usr/bin:{bin}")
    assert command("pytest", "a b.py", 3) == "pytest 'a b.py' 3"


def test_one_beside_python_goes_by_its_path(bin, tmp_path, monkeypatch):
    program(bin / "pytest")
    program(tmp_path / "pytest")  # another Python's
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command("pytest", "a.py") == "'my env/bin/pytest' a.py"


def test_a_module_goes_by_python(bin):
    assert command("minet", "check") == "'my env/bin/python' -m minet check"


def test_what_is_missing_is_installed_first(bin):
    python = "'my env/bin/python'"
    assert command("no_such_program") == (
        f"{python} -m pip install no_such_program && {python} -m no_such_program"
    )


def test_class_names():
    assert [class_name(name) for name in ("a", "a-b_c", "aB", "ABC")] == ["A", "ABC", "AB", "ABC"]
