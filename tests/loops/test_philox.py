"""Philox4x32-10 against Random123's known answers, and against the algorithm in Python integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minet import backends
from minet.loops import kernel
from minet.loops.philox import philox, uniform, words

# Random123, tests/kat_vectors, lines "philox4x32 10": counter, key, expected.
KNOWN = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def written_out(key, counter):
    """Salmon et al. 2011, section 3.3."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(10):
        high0, low0 = divmod(c0 * 0xD2511F53, 2**32)
        high1, low1 = divmod(c2 * 0xCD9E8D57, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


@kernel()
def draw(out, k0, k1, step, first):
    """Draw uniform numbers as a layer does: four to a block, from block `first` on."""
    for i in range(out.size // 4):
        w0, w1, w2, w3 = words(k0, k1, step, first + i)
        out[4 * i] = uniform(w0)
        out[4 * i + 1] = uniform(w1)
        out[4 * i + 2] = uniform(w2)
        out[4 * i + 3] = uniform(w3)


def drawn(size=40_000, key=(1, 2), step=3, first=0):
    out = np.empty(size, np.float32)
    draw(out, *key, step, first)
    return out


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected):
    assert philox(*key, *counter) == expected
    assert written_out(key, counter) == expected


u32, u63 = st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1)


@settings(max_examples=50, deadline=None)
@given(st.tuples(u32, u32), st.tuples(u32, u32, u32, u32))
def test_any_key_and_counter(key, counter):
    assert philox(*key, *counter) == written_out(key, counter)


@settings(max_examples=50, deadline=None)
@given(st.tuples(u32, u32), u63, u63)
def test_the_counter_is_block_then_step_low_words_first(key, step, block):
    counter = (block % 2**32, block >> 32, step % 2**32, step >> 32)
    assert words(*key, step, block) == written_out(key, counter)


DRAWN = """
#include "philox.cuh"
extern "C" __global__ void drawn(unsigned *four, unsigned *each, float *u, unsigned key0, unsigned key1,
                                 long long step, long long block) {
    uint4 w = words(key0, key1, step, block);
    four[0] = w.x, four[1] = w.y, four[2] = w.z, four[3] = w.w;
    for (int i = 0; i < 4; i++) each[i] = word(key0, key1, step, 4 * block + i), u[i] = uniform(each[i]);
}
"""


@pytest.mark.sweep(6)
@pytest.mark.parametrize("step", [0, 2**32 - 1, 2**32, 2**40 + 7, 2**63 - 1])
@pytest.mark.parametrize("block", [0, 2**32 - 1, 2**32, 2**32 + 5, 2**40 + 3, 2**61 - 1])
def test_kernels_draw_the_same_words_beyond_32_bits(gpu_backend, tmp_path, step, block):
    (tmp_path / "drawn.cu").write_text(DRAWN)
    be = backends.get(gpu_backend)
    four, each, u = be.zeros((4,), "uint32"), be.zeros((4,), "uint32"), be.zeros((4,))
    values = {"key0": 2**32 - 1, "key1": 7, "step": step, "block": block, "four": four, "each": each, "u": u}
    be.call(tmp_path / "drawn.cu", "drawn", {}, values, grid=(1, 1, 1), block=(1, 1, 1))
    expected = written_out((2**32 - 1, 7), (block % 2**32, block >> 32, step % 2**32, step >> 32))
    for got in (four, each):
        np.testing.assert_array_equal(be.get(got), expected)
    np.testing.assert_array_equal(be.get(u), [(word >> 8) / 2**24 for word in expected])


@pytest.mark.parametrize("word", [0, 1, 255, 256, 0x80000000, 0xFFFFFEFF, 0xFFFFFFFF])
def test_uniform_is_the_upper_24_bits_exactly(word):
    u = uniform(np.uint32(word))
    assert u == (word >> 8) / 2**24
    assert 0 <= u < 1


def test_uniform_is_a_float32_below_one():
    assert uniform(np.uint32(0xFFFFFFFF)) < 1  # a draw of 1 would pick past the end
    assert {str(signature.return_type) for signature in uniform.nopython_signatures} == {"float32"}


def test_a_vectorised_loop_draws_the_same_words():
    expected = [w >> 8 for block in range(25) for w in written_out((1, 2), (7 + block, 0, 3, 0))]
    np.testing.assert_array_equal(drawn(100, first=7) * 2**24, expected)


def test_the_numbers_are_uniform():
    u = drawn().astype(float)
    n = u.size
    assert abs(u.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / n)
    assert abs((u**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / n)
    counts = np.bincount((u * 64).astype(int), minlength=64)
    chi2 = ((counts - n / 64) ** 2 / (n / 64)).sum()
    assert abs(chi2 - 63) < 5 * np.sqrt(2 * 63)


@pytest.mark.parametrize(
    "other",
    [{"key": (2, 2)}, {"key": (1, 3)}, {"step": 4}, {"first": 10_000}, {"first": 2**32}, {"step": 3 + 2**32}],
)
def test_other_keys_steps_and_blocks_are_unrelated(other):
    a, b = drawn().astype(float), drawn(**other).astype(float)
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(a.size)


def test_neighbours_are_unrelated():
    u = drawn().astype(float)
    for lag in (1, 2, 3, 4, 8):
        assert abs(np.corrcoef(u[lag:], u[:-lag])[0, 1]) < 5 / np.sqrt(u.size)
