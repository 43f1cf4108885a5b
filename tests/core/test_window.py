"""The geometry of sliding windows: settings, output sizes, and what does not fit."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest
from pooling import GEOMETRIES
from zoo import Toy

from minet import LayerError
from minet.core.window import MARCHING, Window, bands, pair
from minet.layers import MaxPool


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, (3, 3)), ((3, 5), (3, 5)), ([3, 5], (3, 5)), (np.int64(4), (4, 4)), ((2.0, np.int8(3)), (2, 3)),
     (np.array([1, 2]), (1, 2))],
)  # fmt: skip
def test_a_setting_is_one_number_or_two(value, expected):
    found = pair(Toy(), "stride", value)
    assert found == expected and [type(size) for size in found] == [int, int]


@pytest.mark.parametrize(
    "value", [0, -1, (3, 0), (1, 2, 3), (3,), 2.5, (1, 2.5), "3", "35", None, True, (3, None), float("inf"),
              (float("inf"), 1), (float("nan"), 1)],
)  # fmt: skip
def test_other_settings_are_refused(value):
    message = f"stride must be one or two whole numbers of at least 1, got {value!r}"
    with pytest.raises(LayerError, match=re.escape(message)) as caught:
        pair(Toy(), "stride", value)
    assert "hint: use stride=3 or stride=(3, 5)" in str(caught.value)


def test_zero_is_a_pad():
    assert pair(Toy(), "pad", 0, 0) == (0, 0)
    with pytest.raises(
        LayerError, match=r"pad must be .* at least 0, got -1\n  hint: use pad=0 or pad=\(1, 2\)"
    ):
        pair(Toy(), "pad", -1, 0)


def test_pool():
    assert Window.pool(Toy(), (3, 5), None, 0) == ((3, 5), (3, 5), (0, 0), (1, 1))
    assert Window.pool(Toy(), 3, (1, 2), (2, 1)) == ((3, 3), (1, 2), (2, 1), (1, 1))
    for pad in (3, (3, 0), (0, 4)):
        with pytest.raises(LayerError, match=r"pad \(\d, \d\) must be smaller than the window \(3, 3\)"):
            Window.pool(Toy(), 3, None, pad)


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("window", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3, 7])
@pytest.mark.parametrize("dilation", [1, 2])
def test_out_hw_counts_the_windows_that_fit(size, window, stride, dilation):
    for pad in range(4):
        starts = range(-pad, size + pad, stride)
        count = sum(start + dilation * (window - 1) < size + pad for start in starts)
        geometry = Window((1, window), (1, stride), (0, pad), (1, dilation))
        if count:
            assert geometry.out_hw(Toy(), (3, 4, size), empty=True) == (4, count)
        else:
            with pytest.raises(LayerError, match=rf"does not fit W={size} with pad {pad}"):
                geometry.out_hw(Toy(), (3, 4, size), empty=True)


def test_every_pooling_window_meets_the_image():
    for size in range(1, 9):
        for pad in range(3):
            window = Window.pool(Toy(), 3, 2, pad)
            try:
                out, _ = window.out_hw(Toy(), (1, size, 9))
            except LayerError:
                continue
            starts = [2 * p - pad for p in range(out)]
            assert all(start + 3 > 0 and start < size for start in starts)


def test_a_misfit_is_reported_with_sizes():
    with pytest.raises(LayerError) as caught:
        Window((9, 9), (1, 1), (0, 0)).out_hw(Toy(), (64, 4, 12))
    assert caught.value.message == "window 9x9 does not fit H=4 with pad 0"
    assert caught.value.hint == "raise pad or shrink window"
    with pytest.raises(LayerError, match=r"window 3x3 spread by dilation 4 does not fit W=5 with pad 1"):
        Window((3, 3), (1, 1), (1, 1), (1, 4)).out_hw(Toy(), (1, 5, 5))


def test_where_windows_begin_and_overlap():
    window = Window((5, 3), (2, 3), (2, 1))
    assert window.reach == (3, 1)  # windows that contain a row, a column
    # Windows begin at rows -2, 0, 2, at columns -1, 2, 5: groups are -2 -1, 0 1, 2 3, and -1 0 1, 2 3 4.
    assert [window.beginning(size, axis=0) for size in (1, 2, 3, 5)] == [2, 2, 3, 4]
    assert [window.beginning(size) for size in (1, 2, 3, 5, 6)] == [1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("threads", "rows", "reach", "expected"),
    [
        (MARCHING, 100, 1, 1),  # enough threads already
        (MARCHING // 4, 100, 2, 4),
        (MARCHING // 4, 100, 21, 2),  # each at least twice as high as the overlap
        (1, 7, 4, 1),
        (0, 7, 1, 7),
        (1, 10**6, 1, 1 << 15),  # the most that a grid takes
    ],
)
def test_a_march_is_cut_into_bands(threads, rows, reach, expected):
    assert bands(threads, rows, reach) == expected


TAPPED = [
    Window((2, 3), (1, 2), (1, 0)),
    Window((3, 1), (2, 1), (2, 0)),
    Window((2, 2), (3, 1), (0, 1), (2, 3)),
]


@pytest.mark.parametrize("window", TAPPED)
def test_taps_are_what_each_tap_of_a_window_meets(window):
    (R, S), stride, pad, dilation = window
    x = np.arange(1.0, 2 * 7 * 6 * 3 + 1).reshape(2, 7, 6, 3)
    taps = window.taps(window.padded(x, outside=-1))
    P, Q = window.out_hw(Toy(), x.shape[:3])
    assert taps.shape == (R, S, 2, P, Q, 3)
    for r, s, p, q in np.ndindex(R, S, P, Q):
        h = p * stride[0] - pad[0] + r * dilation[0]
        w = q * stride[1] - pad[1] + s * dilation[1]
        inside = 0 <= h < 7 and 0 <= w < 6
        np.testing.assert_array_equal(taps[r, s, :, p, q], x[:, h, w] if inside else -np.ones((2, 3)))


@pytest.mark.parametrize("window", TAPPED)
def test_what_is_added_to_each_tap_arrives_at_the_pixels(window):
    x = np.zeros((2, 7, 6, 3))
    padded = window.padded(x)
    taps, count = window.taps(padded), np.zeros((7, 6))
    for tap in np.ndindex(window.size):
        taps[tap] += 1
    for p, q in np.ndindex(taps.shape[3:5]):  # how many windows hold each pixel
        for r, s in np.ndindex(window.size):
            h, w = (
                o * t - m + k * d
                for o, t, m, k, d in zip((p, q), *window[1:3], (r, s), window.dilation, strict=True)
            )
            if 0 <= h < 7 and 0 <= w < 6:
                count[h, w] += 1
    np.testing.assert_array_equal(window.inside(padded)[1, :, :, 2], count)
    assert window.inside(padded).shape == x.shape and not x.any()


@pytest.mark.parametrize(
    ("pad", "before", "after"),
    [(1, (1, 1), (1, 1)), ((1, 2), (1, 2), (1, 2)), (((0, 2), (1, 3)), (0, 1), (2, 3)),
     ((1, (0, 2)), (1, 0), (1, 2))],
)  # fmt: skip
def test_the_forms_of_pad(pad, before, after):
    window = Window.of(Toy(), 5, 1, pad)
    assert (window.pad, window.behind) == (before, after)


@pytest.mark.parametrize(
    "pad", [-1, (1, -1), ((0, 1), (-1, 0)), ((1, 2, 3), (0, 0)), "valid", None, 1.5, "11"]
)
def test_other_pads_are_refused(pad):
    message = f'pad must be whole numbers of at least 0, or "same", got {pad!r}'
    with pytest.raises(LayerError, match=re.escape(message)):
        Window.of(Toy(), 3, 1, pad)


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_same_gives_as_many_outputs_the_larger_part_after(size, dilation):
    window = Window.of(Toy(), size, 1, "same", dilation)
    assert window.out_hw(Toy(), (1, 25, 30)) == (25, 30)
    assert window.behind[0] - window.pad[0] == dilation * (size - 1) % 2


def test_same_with_a_stride_is_refused():
    with pytest.raises(LayerError, match=r'pad="same" needs a stride of 1, got 2x1[\s\S]*fewer outputs'):
        Window.of(Toy(), 3, (2, 1), "same")
    with pytest.raises(LayerError, match="needs a stride of 1, got 3x3"):
        Window.pool(Toy(), 3, None, "same")  # a pool's stride is its window


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_outputs_are_counted(geometry):
    window = geometry.make(MaxPool).window
    for H in range(1, 24):
        try:
            P, _ = window.out_hw(Toy(), (1, H, 30))
        except LayerError:
            continue
        assert geometry.outputs(H, 30)[0] == P


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_window_on_an_image_counts_the_same_without_ceil(geometry):
    window = geometry.make(MaxPool).window
    on = window.on((1, 23, 30))
    assert not on.ceil and on.out_hw(Toy(), (1, 23, 30)) == window.out_hw(Toy(), (1, 23, 30))
    padded = on.padded(np.zeros((1, 23, 30, 1)))
    assert on.taps(padded).shape[3:5] == on.out_hw(Toy(), (1, 23, 30))
    assert on.inside(padded).shape == (1, 23, 30, 1)


def test_a_spread_window_that_straddles_the_image_is_refused():
    window = Window.pool(Toy(), 2, 1, 1, dilation=2)
    with pytest.raises(
        LayerError, match=r"window 2x2 spread by dilation 2 meets only padding of H=1 with pad 1"
    ):
        window.out_hw(Toy(), (1, 1, 5))
    assert window.out_hw(Toy(), (1, 1, 5), empty=True) == (1, 5)
    assert window.out_hw(Toy(), (1, 2, 5)) == (2, 5)


def test_a_causal_pad_is_the_window_less_one():
    window = Window.pool(Toy(), (401, 1), 1, ((400, 0), (0, 0)))
    assert window.out_hw(Toy(), (1, 7, 3)) == (7, 3)
    with pytest.raises(
        LayerError, match=r"pad \(\(401, 0\), \(0, 0\)\) must be smaller than the window \(401, 1\)"
    ):
        Window.pool(Toy(), (401, 1), 1, ((401, 0), (0, 0)))


@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [(5, 2, 1), (3, 4, 6), (4, 3, 2), (2, 2, 2), (3, 2, 3)]
)
def test_reach_is_the_most_windows_at_one_place(size, stride, dilation):
    window = Window((size, 1), (stride, 1), (0, 0), (dilation, 1))
    holding = np.zeros(200, int)
    for p in range((200 - window.spans[0]) // stride + 1):
        holding[p * stride + np.arange(size) * dilation] += 1
    assert window.reach[0] == holding.max()


def test_windows_are_alike_if_their_ends_are_too():
    one = Window.pool(Toy(), 3, 1, 1)
    assert one == Window.pool(Toy(), 3, 1, 1) == copy.deepcopy(one) == pickle.loads(pickle.dumps(one))
    for other in (Window.pool(Toy(), 3, 1, ((1, 0), (1, 1))), Window.pool(Toy(), 3, 1, 1, ceil=True)):
        assert one != other and copy.deepcopy(other) == other == pickle.loads(pickle.dumps(other))
    assert len({one, other}) == 2
