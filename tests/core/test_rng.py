"""Keys and generators: the same (seed, path) gives the same numbers on every machine."""

import operator
from binascii import crc32

import numpy as np
import pytest

from minet import MinetError, Net
from minet.core.rng import Clock, PartStep, generator, layer_key, uniform
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


def clock_of(part, batch=None, step=5):
    clock = Clock(step)
    clock.batch, clock.part = batch, part
    return clock


@pytest.mark.parametrize("step", [0, 3, 2**32 - 1, 2**40 + 7])
@pytest.mark.parametrize("shape", [(), (1,), (3, 7), (2, 3, 5)])
def test_parts_draw_what_the_whole_batch_would(shape, step):
    for whole, parts in ((12, [(0, 4), (4, 3), (7, 5)]), (5, [(i, 1) for i in range(5)]), (9, [(0, 9)])):
        expected = uniform((7, 2**32 - 1), step, (*shape, whole))
        for first, n in parts:
            drawn = uniform((7, 2**32 - 1), clock_of((first, whole), n, step).step, (*shape, n))
            assert drawn.dtype == np.float32
            np.testing.assert_array_equal(drawn, expected[..., first : first + n])


def test_a_part_of_a_batch_is_told_by_the_clock():
    clock = clock_of((np.int64(4), 12), batch=3)
    assert clock.part == (4, 12) and clock.samples(3) == (4, 12) and type(clock.now) is int
    assert clock != Clock(5) and clock == clock_of((4, 12))
    clock.step += 1
    assert type(clock.now) is int and clock.now == 6 and clock.read
    clock.step = clock.step
    assert type(clock.now) is int
    clock.part = None
    assert type(clock.step) is int and clock.samples(7) == (0, 7) and clock == Clock(6)


@pytest.mark.parametrize("part", [(3, 3), (-1, 2), (0, 0), [0, 2], (0, 1, 2), (0.0, 2), (False, 2), 1, "12"])
def test_what_is_no_part(part):
    clock = Clock()
    with pytest.raises(MinetError, match=r"\(first, whole\) with 0 <= first < whole, got"):
        clock.part = part
    assert clock.part is None


def test_samples_that_a_part_cannot_have():
    clock, message = clock_of((4, 12)), "9 samples from number 4 on are no part of a batch of 12"
    with pytest.raises(MinetError, match=message):
        clock.samples(9)
    with pytest.raises(MinetError, match=message):
        uniform((1, 2), clock.step, (3, 9))
    assert clock.step == 5  # a net of another batch may still be asked for its step


@pytest.mark.parametrize("shape", [(), (4,), (3, 4)])
def test_draws_that_samples_share_are_not_those_of_a_part(shape):
    step = clock_of((4, 12), batch=3).step
    with pytest.raises(MinetError, match=r"not end with the axis of the 3 samples\n.*int\(self.clock.step\)"):
        uniform((1, 2), step, shape)
    np.testing.assert_array_equal(uniform((1, 2), int(step), shape), uniform((1, 2), 5, shape))


def test_the_step_of_a_part_computes_as_a_number_does():
    step = clock_of((4, 12)).step
    assert isinstance(step, PartStep) and {5: "five"}[step] == "five" and list(range(step)) == [0, 1, 2, 3, 4]
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "eq", "ne", "lt", "ge"):
        of = getattr(operator, name)
        for other in (2, 5, 7.5):
            assert of(step, other) == of(5, other) and of(other, step) == of(other, 5)
            assert type(of(step, other)) is type(of(5, other))


def test_what_would_draw_the_same_in_every_part_refuses_its_step():
    import numba

    @numba.njit
    def given(value):
        return value

    step = clock_of((4, 12)).step
    assert given(3) == 3 and given((1, 3)) == (1, 3)  # Numba may know the types of whole numbers
    for value in (step, (1, step), ((1, 2), step)):
        with pytest.raises(MinetError, match=r"does not say which words.*\n  hint: pass int\(self.clock"):
            given(value)
    for seed in (step, [1, step]):
        with pytest.raises(TypeError):
            np.random.default_rng(seed)
    assert given(int(step)) == 5
