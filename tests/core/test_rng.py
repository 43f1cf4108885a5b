"""Keys and generators: the same (seed, path) gives the same numbers on every machine."""

from binascii import crc32

import numpy as np
import pytest

from minet import MinetError, Net
from minet.core.rng import Clock, generator, layer_key, uniform
from minet.layers import Identity


def test_a_key_is_the_seed_and_the_crc_of_the_path():
    assert layer_key(7, "123456789") == (7, 0xCBF43926)  # the check value in every description of crc32
    assert layer_key(0, "") == (0, 0)
    assert layer_key(2**32 - 1, "1/2/dropout") == (2**32 - 1, crc32(b"1/2/dropout"))
    layer_key(0, "ein/schöner/pfad")


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8, np.uint32])
def test_numpy_integers_are_seeds(kind):
    key = layer_key(kind(200 if kind is np.uint8 else 1 << 30), "a")
    assert [type(word) for word in key] == [int, int]
    drawn = generator(kind(100), "a").random(3)
    np.testing.assert_array_equal(drawn, generator(100, "a").random(3))


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, "1", None, True, np.int64(-5)])
def test_invalid_seeds(seed):
    for use in (layer_key, generator):
        with pytest.raises(MinetError, match=r"seed must be a whole number in 0 \.\. 4294967295, got"):
            use(seed, "a")


def test_a_generator_is_philox_with_that_key():
    low, high = layer_key(3, "0/conv.w")
    expected = np.random.Generator(np.random.Philox(key=low << 32 | high)).random(4)
    np.testing.assert_array_equal(generator(3, "0/conv.w").random(4), expected)


def test_generators_differ_by_seed_and_path():
    draws = {tuple(generator(seed, path).random(2)) for seed in range(20) for path in ("a", "b", "a/b")}
    assert len(draws) == 60


def test_first_bits_do_not_change():
    # Fixed values: a change would alter the initial values of every model with the same seed.
    words = generator(0, "0/conv.w").bit_generator.random_raw(2)
    np.testing.assert_array_equal(words, [13964484446460768763, 4172723807837643822])


def test_a_net_shares_one_clock_and_hands_out_keys():
    layer = Identity()
    net = Net([Identity(), layer], (1, 2, 3), 1, seed=9)
    assert layer.clock is net.clock == Clock(0)
    assert layer.key == layer_key(9, "1/identity")


def test_a_clock_notes_who_reads_it():
    clock = Clock(3)
    assert clock.now == 3 and not clock.read and repr(clock) == "Clock(3)" and clock != Clock(4)
    clock.step += 1
    assert clock.read and clock.step == clock.now == 4


@pytest.mark.parametrize(("step", "shape"), [(0, (2, 3)), (5, (7,)), (2**32 + 3, (1, 2, 3, 5)), (1, ())])
def test_draws_in_numpy_equal_those_in_numba(step, shape):
    from minet.loops.philox import words

    drawn = uniform((7, 2**32 - 1), step, shape)
    assert drawn.shape == shape and drawn.dtype == np.float32
    for element, value in enumerate(drawn.reshape(-1)):
        word = int(words(7, 2**32 - 1, step, element // 4)[element % 4])
        assert value == np.float32((word >> 8) * 2**-24)
