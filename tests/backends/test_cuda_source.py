"""CUDA source: headers inlined with their lines, parameters parsed, mistakes reported with their place."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest

from minet import MinetError
from minet.backends import cuda_source

KERNEL = 'extern "C" __global__ void {name}({parameters}) {{}}\n'


def written(folder, text, name="own.cu"):
    path = folder / name
    path.write_text(text)
    return path


def kernel(folder, parameters):
    path = written(folder, KERNEL.format(name="own", parameters=parameters))
    return cuda_source.read(path).kernels["own"]


def places(text):
    """Where each line comes from, according to the #line marks."""
    found, file, number = {}, "", 0
    for line in text.splitlines():
        if mark := re.match(r'#line (\d+) "(.*)"', line):
            number, file = int(mark[1]), mark[2]
            continue
        if line:
            assert line not in found
            found[line] = f"{file}:{number}"
        number += 1
    return found


# -- headers --------------------------------------------------------------------------------------------


def test_headers_are_inlined_and_keep_their_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "int in_a;\n", "a.cuh")
    written(tmp_path, '#include "a.cuh"\nint in_b;\n', "b.cuh")
    path = written(tmp_path, 'int first;\n #  include "b.cuh" // mine\n#include "a.cuh"\nint last;\n')
    assert places(cuda_source.read(path).text) == {
        "int first;": "own.cu:1", "int in_a;": "a.cuh:1", "int in_b;": "b.cuh:2", "int last;": "own.cu:4",
    }  # fmt: skip


def test_includes_in_angle_brackets_are_left_to_the_compiler(tmp_path):
    assert "#include <cmath>" in cuda_source.read(written(tmp_path, "#include <cmath>\n")).text


def test_minets_own_headers_are_found_after_those_next_to_the_file(tmp_path):
    path = written(tmp_path, '#include "minet.cuh"\n')
    assert "FOR_EACH" in cuda_source.read(path).text
    written(tmp_path, "int mine;\n", "minet.cuh")
    other = written(tmp_path, '#include "minet.cuh"\n', "other.cu")
    assert "int mine;" in cuda_source.read(other).text and "FOR_EACH" not in cuda_source.read(other).text


def test_a_missing_header_is_reported_with_its_line(tmp_path):
    written(tmp_path, '\n#include "gone.cuh"\n', "a.cuh")
    path = written(tmp_path, '#include "a.cuh"\n')
    with pytest.raises(
        MinetError, match=r"a\.cuh:2: header 'gone\.cuh' was not found next to it, nor in .*kernels"
    ):
        cuda_source.read(path)


def test_a_file_that_changed_is_read_again(tmp_path):
    path = written(tmp_path, KERNEL.format(name="one", parameters=""))
    assert list(cuda_source.read(path).kernels) == ["one"]
    assert cuda_source.read(path) is cuda_source.read(path)
    written(tmp_path, KERNEL.format(name="two", parameters=""))
    os.utime(path, ns=(1, 1))
    assert list(cuda_source.read(path).kernels) == ["two"]


def test_a_header_that_changed_is_read_again(tmp_path):
    header = written(tmp_path, "int old;\n", "a.cuh")
    path = written(tmp_path, '#include "a.cuh"\n')
    assert "int old;" in cuda_source.read(path).text
    header.write_text("int young;\n")
    os.utime(header, ns=(1, 1))
    assert "int young;" in cuda_source.read(path).text


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "own.cu"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(MinetError, match=r"own\.cu: cannot be read: "):
        cuda_source.read(path)


# -- kernels --------------------------------------------------------------------------------------------


def test_parameters_are_read_by_name_and_type(tmp_path):
    text = (
        "const float * __restrict__ x, unsigned char *bytes, long long n, const uint4* v, bool on, index_t i"
    )
    found = kernel(tmp_path, text)
    assert [(p.name, p.type, p.pointer) for p in found.parameters] == [
        ("x", "float", True), ("bytes", "unsigned char", True), ("n", "long long", False),
        ("v", "uint4", True), ("on", "bool", False), ("i", "index_t", False),
    ]  # fmt: skip
    assert str(found) == "own(float *x, unsigned char *bytes, long long n, uint4 *v, bool on, index_t i)"


def test_kernels_are_found_with_their_lines_but_not_in_comments(tmp_path):
    text = (
        '// extern "C" __global__ void no(int a) {}\n/* extern "C" __global__\nvoid no(int a) */\n'
        'extern "C"\n__global__ void __launch_bounds__(256) yes(int a, // of all\n    float b) {}\n'
        'extern "C" __global__ __launch_bounds__(128, 2) void too() {}\n__device__ void helper(int c) {}\n'
    )
    found = cuda_source.read(written(tmp_path, text)).kernels
    assert [(k.name, k.place.rpartition(":")[2], len(k.parameters)) for k in found.values()] == [
        ("yes", "5", 2), ("too", "7", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("float x[3]", "a kernel cannot take 'float x[3]'"),
        ("float **x", r"a kernel cannot take 'float **x'"),
        ("Thing t", "a kernel cannot take 'Thing t'"),
        ("unsigned char b", "a kernel cannot take 'unsigned char b'"),
        ("int", "a kernel cannot take 'int'"),
    ],
)
def test_a_parameter_that_cannot_be_passed_is_reported(tmp_path, parameters, message):
    with pytest.raises(MinetError) as caught:
        kernel(tmp_path, parameters)
    assert f"own.cu:1: {message}\n  hint: use a pointer to numbers, or int, unsigned" in str(caught.value)


def test_a_kernel_must_be_extern_c(tmp_path):
    with pytest.raises(MinetError, match=r'own\.cu:1: own must be extern "C"\n  hint: extern "C" __global__'):
        cuda_source.read(written(tmp_path, "__global__ void own(int a) {}\n"))


def test_what_an_array_must_hold(tmp_path):
    x, bytes_, index, own = kernel(tmp_path, "float *x, uint8_t *b, index_type *i, Own *o").parameters
    assert cuda_source.element(x, {}) == np.float32 and cuda_source.element(bytes_, {}) == np.uint8
    assert cuda_source.element(index, {"index_type": "unsigned short"}) == np.uint16
    assert cuda_source.element(own, {}) is None


def test_constants_become_options():
    constants = {"S": 3, "R": np.int64(11), "ON": True, "OFF": np.bool_(False), "EPS": 1e-05, "T": "float"}
    expected = ["-DEPS=1e-05f", "-DOFF=0", "-DON=1", "-DR=11", "-DS=3", "-DT=float"]
    assert cuda_source.defines(constants) == expected
