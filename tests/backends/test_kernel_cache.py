"""The cache of compiled kernels: its keys, that entries are never half written, and its messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from minet import MinetError, backends
from minet.backends import kernel_cache

COMPILER = """#!/bin/sh
here=$(dirname "$0")
if [ "$1" = --version ]; then cat "$here/version"; exit; fi
echo "$@" >> "$here/calls"
while [ $# -gt 2 ]; do shift; done # leaves the last two: -o OUT IN
if grep -q refuse "$2"; then
    echo part of it > "$1"
    echo "$2:7: no" >&2
    echo "own.cu:3: error: refused" >&2
    exit 1
fi
if grep -q chatty "$2"; then seq 40 >&2; exit 1; fi
echo "my output"
tr a-z A-Z < "$2" > "$1"
"""


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """A compiler that writes capitals, logs its calls, and refuses text with the word refuse."""
    monkeypatch.setenv("MINET_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "capitals"
    path.write_text(COMPILER)
    path.chmod(0o755)
    (tmp_path / "version").write_text("capitals 1.0\n")
    kernel_cache.version.cache_clear()
    yield path
    kernel_cache.version.cache_clear()


def build(compiler, text="text", options=("-x",), suffix=".out"):
    return kernel_cache.build(str(compiler), list(options), text, ".in", suffix)


def calls(compiler):
    path = compiler.with_name("calls")
    return len(path.read_text().splitlines()) if path.exists() else 0


def listing(folder):
    return sorted(path.name for path in Path(folder).rglob("*"))


def test_what_was_built_is_not_built_again(compiler):
    path = build(compiler)
    assert path.read_text() == "TEXT" and path.parent == kernel_cache.folder()
    assert build(compiler) == path and calls(compiler) == 1
    assert listing(path.parent) == [path.name, f"{path.name}.sum"]
    assert kernel_cache.compiler_output(path) == "my output\n"


def test_the_key_depends_on_everything_that_goes_in(compiler, tmp_path):
    found = [build(compiler), build(compiler, "other"), build(compiler, options=["-y"])]
    found += [build(compiler, options=["-x", "-y"]), build(compiler, options=[])]
    other = tmp_path / "others"
    other.write_text(COMPILER)
    other.chmod(0o755)
    found.append(build(other))
    (tmp_path / "version").write_text("capitals 1.1\n")
    kernel_cache.version.cache_clear()
    found.append(build(compiler))
    assert len({path.name for path in found}) == len(found) == calls(compiler)


@pytest.mark.parametrize("damage", ["cut", "changed", "no sum", "wrong sum", "gone"])
def test_a_damaged_entry_is_built_again(compiler, damage):
    path = build(compiler)
    total = path.with_name(f"{path.name}.sum")
    {
        "cut": lambda: path.write_text("TE"),
        "changed": lambda: path.write_text("TEXTS"),
        "no sum": total.unlink,
        "wrong sum": lambda: total.write_text("0\n"),
        "gone": path.unlink,
    }[damage]()
    assert build(compiler).read_text() == "TEXT" and calls(compiler) == 2
    assert build(compiler) == path and calls(compiler) == 2


def test_what_is_refused_leaves_nothing_and_is_reported(compiler):
    with pytest.raises(kernel_cache.CompileError) as caught:
        build(compiler, "refuse")
    assert str(caught.value) == (
        "capitals cannot compile a kernel:\n  generated code:7: no\n  own.cu:3: error: refused"
    )
    assert listing(kernel_cache.folder()) == []


def test_a_long_message_is_cut(compiler):
    with pytest.raises(kernel_cache.CompileError) as caught:
        build(compiler, "chatty")
    lines = str(caught.value).splitlines()
    assert lines[1:31] == [f"  {n}" for n in range(1, 31)] and lines[31:] == ["  ... and 10 more lines"]


def test_an_interruption_leaves_nothing(compiler, monkeypatch):
    def interrupted(command, **_):
        Path(command[command.index("-o") + 1]).write_text("half")
        raise KeyboardInterrupt

    kernel_cache.version(str(compiler))
    monkeypatch.setattr(kernel_cache.subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(compiler)
    assert listing(kernel_cache.folder()) == []


def test_a_folder_that_cannot_be_written_to(compiler, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINET_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(MinetError) as caught:
        build(compiler)
    assert str(caught.value) == (
        f"cannot write to the cache of compiled kernels, {tmp_path}/file/cache: Not a directory\n"
        "  hint: set MINET_CACHE to a writable folder"
    )


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("MINET_CACHE", "here")
    assert kernel_cache.folder() == Path.cwd() / "here"
    monkeypatch.delenv("MINET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernel_cache.folder() == tmp_path / "minet" / "kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kernel_cache.folder() == tmp_path / ".cache" / "minet" / "kernels"


def test_a_missing_compiler_has_no_version(compiler):
    assert kernel_cache.version(str(compiler)) == "capitals 1.0"
    assert kernel_cache.version("no-such-compiler") == ""


@pytest.mark.skipif(bool(backends.missing("emu")), reason=f"no g++: {backends.missing('emu')}")
def test_a_kernel_that_does_not_compile_is_reported_with_the_user_s_line(tmp_path, monkeypatch):
    monkeypatch.setenv("MINET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "inner.cuh").write_text("\n\n__device__ int wrong() { return gone; }\n")
    text = '#include "inner.cuh"\nextern "C" __global__ void own(float *x) {\n    x[0] = nothing;\n}\n'
    (tmp_path / "own.cu").write_text(text)
    with pytest.raises(kernel_cache.CompileError, match=r"^g\+\+ cannot compile a kernel:\n") as caught:
        backends.get("emu").call(tmp_path / "own.cu", "own", {}, {"x": None}, 1)
    assert not caught.value.hint
    for place, name in (("inner.cuh:3:33", "gone"), ("own.cu:3:12", "nothing")):
        expected = rf"  {tmp_path}/{place}: error: .{name}. was not declared"
        assert re.search(expected, str(caught.value)), str(caught.value)
    assert not list((tmp_path / "cache").glob("build-*"))


@pytest.mark.skipif(bool(backends.missing("emu")), reason=f"no g++: {backends.missing('emu')}")
def test_a_window_that_the_layer_does_not_pass_is_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("MINET_CACHE", str(tmp_path / "cache"))
    text = '#include "window.cuh"\nextern "C" __global__ void own(float *x) { x[0] = SY; }\n'
    (tmp_path / "own.cu").write_text(text)
    with pytest.raises(
        kernel_cache.CompileError, match=r"hint: window\.cuh needs the layer's window: def constants"
    ):
        backends.get("emu").call(tmp_path / "own.cu", "own", {}, {"x": None}, 1)


@pytest.mark.skipif(bool(backends.missing("emu")), reason=f"no g++: {backends.missing('emu')}")
def test_a_constant_that_the_layer_does_not_pass_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("MINET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.cu").write_text('extern "C" __global__ void own(float *x) { x[0] = SCALE; }\n')
    said = r'hint: is SCALE a constant of the layer\? def constants\(self\): return {"SCALE": \.\.\.}'
    with pytest.raises(kernel_cache.CompileError, match=said):
        backends.get("emu").call(tmp_path / "own.cu", "own", {}, {"x": None}, 1)
