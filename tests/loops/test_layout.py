"""Images between (N, C, H, W) or channels last and (C, H, W, N)."""

import numpy as np
import pytest

from minet.loops.layout import lay, lift

FORMS = {
    "nchw": lambda x: x,
    "channels last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "some channels of NCHW": lambda x: np.concatenate([x, x, x], axis=1)[:, x.shape[1] : 2 * x.shape[1]],
    "some channels, last": lambda x: FORMS["channels last"](np.concatenate([x, x], axis=1))[:, : x.shape[1]],
    "every second row": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
}
SHAPES = [(1, 1, 1, 1), (3, 2, 5, 7), (16, 16, 4, 4), (33, 70, 6, 11), (17, 3, 40, 36), (40, 50, 1, 1)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back(dtype, form, shape):
    N, C, H, W = shape
    x = np.arange(N * C * H * W, dtype=dtype).reshape(shape)
    given, out = FORMS[form](x), np.full((C, H, W, N), np.nan, dtype)
    lay(given, out)
    assert np.array_equal(out, x.transpose(1, 2, 3, 0))
    back = FORMS[form](np.full_like(x, np.nan))
    lift(out, back)
    assert np.array_equal(back, x)


def test_one_number_everywhere():
    out = np.empty((2, 3, 4, 5), np.float32)
    lay(np.broadcast_to(np.float32(2.5), (5, 2, 3, 4)), out)
    assert (out == 2.5).all()


def test_nothing_beside_the_output_is_written():
    around = np.zeros((20, 9, 6, 5), np.float32)
    a = np.ones((3, 6, 5, 20), np.float32)
    lift(a, around[:, 3:6])
    assert around[:, 3:6].all() and not around[:, :3].any() and not around[:, 6:].any()
