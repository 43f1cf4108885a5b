"""Which tile of a product a size takes, and the shares in which dw is summed."""

import numpy as np
import pytest

from minet.core.window import Window
from minet.layers import Conv, conv_tiles


@pytest.mark.parametrize(
    ("maps", "positions", "tile"),
    [
        (128, 16 * 16 * 128, "large"),
        (65, 132 * 128, "large"),
        (65, 131 * 128, "deep"),
        (64, 132 * 128, "half"),
        (64, 131 * 128, "deep"),
        (96, 8 * 8 * 128, "deep"),
        (17, 1, "deep"),
        (16, 1 << 20, "thin"),
        (3, 1, "thin"),
    ],
)
def test_which_tile_images_take(maps, positions, tile):
    assert conv_tiles.image_tile(maps, positions) == tile


@pytest.mark.parametrize(
    ("K", "C", "taps", "tile"),
    [
        (64, 3, 25, "flat"),
        (64, 3, 9, "flat few"),
        (8, 32, 1, "flat few"),
        (8, 32, 2, "flat"),
        (64, 64, 25, "64x64"),
        (65, 33, 9, "128x64"),
        (64, 65, 1, "64x128"),
        (96, 65, 25, "96x96"),
        (97, 96, 25, "64x128"),
        (128, 512, 9, "64x128"),
    ],
)
def test_which_tile_weights_take(K, C, taps, tile):
    assert conv_tiles.weight_tile(K, C, taps) == tile


def positions(window, size, outputs, N):
    """For each tap, how many positions have it in the image, counted one by one."""
    (R, S), stride, pad, step = window[:4]
    counts = np.zeros((R, S), int)
    for p, q, r, s in np.ndindex(*outputs, R, S):
        h, w = p * stride[0] - pad[0] + r * step[0], q * stride[1] - pad[1] + s * step[1]
        counts[r, s] += 0 <= h < size[0] and 0 <= w < size[1]
    return counts.ravel() * N


@pytest.mark.parametrize("N", [1, 33, 128])
@pytest.mark.parametrize(
    "settings", [(3, 1, 1, 1), (5, 1, 2, 1), (3, 2, 1, 1), ((2, 3), (3, 1), (0, 2), (1, 2))]
)
def test_shares_are_of_one_size_and_no_more_than_there_is_room_for(settings, N):
    layer, size = Conv(8, *settings), (11, 9)
    outputs = layer.out_shape((4, *size))[1:]
    counts = positions(layer.window, size, outputs, N)
    for wanted in (1, 7, 264):
        share, count = conv_tiles.shared_out(layer.window, size, outputs, N, False, wanted)
        assert count == sum(-(-counts // share)) and share % conv_tiles.STEP == 0
        assert conv_tiles.LEAST <= share <= conv_tiles.MOST
        assert count <= max(wanted, counts.size) or share == conv_tiles.MOST
        smaller = share - conv_tiles.STEP  # would be more shares than wanted
        assert share == conv_tiles.LEAST or sum(-(-counts // smaller)) > wanted
    flat = conv_tiles.shared_out(layer.window, size, outputs, N, True, 1)
    assert flat[0] * flat[1] >= outputs[0] * outputs[1] * N > flat[0] * (flat[1] - 1)


def test_the_largest_layers_shares_fill_the_card_once():
    share, count = conv_tiles.shared_out(Window((3, 3), (1, 1), (1, 1)), (16, 16), (16, 16), 128, False, 264)
    assert (share, count) == (1040, 264)  # 15*15*128 positions at the corners, 16*16*128 in the middle
