"""models/leaf_front.py: the sounds, the front end, and that it learns."""

import numpy as np
import pytest

from minet import Net
from minet.core.files import run_file
from minet.layers import GaussianPool
from minet.testing import layer_checks
from minet.train import modelfile

FILE = run_file(modelfile.find("leaf_front"))

test_conformance_of_squared_modulus = layer_checks(FILE.SquaredModulus)
test_conformance_of_log = layer_checks(FILE.Log)


def made(batch=1, **settings):
    model = modelfile.load("leaf_front", **settings)
    return Net(model.net(), model.input_shape, batch, model.loss)


def test_the_sounds_are_the_same_each_time_and_differ_in_training_and_test():
    model = modelfile.load("leaf_front", count=40)
    (train, test), (again, _) = model.datasets(), model.datasets()
    assert (len(train), len(test), train.image_shape) == (40, 20, (1, 1, 4000))
    np.testing.assert_array_equal(train.images, again.images)
    assert np.bincount(train.labels).tolist() == [4] * 10
    assert (train.images[:20] != test.images).mean() > 0.99


def test_the_noise_is_as_strong_as_it_says():
    model = modelfile.load("leaf_front", count=100, snr=-10.0)
    power = (model.datasets()[0].images ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(power, 1 + 10, rtol=0.15)  # the sound has power 1


def test_the_pitch_is_within_the_filters_bands():
    clean = modelfile.load("leaf_front", count=50, snr=200.0).datasets()[0]
    spectrum = np.abs(np.fft.rfft(clean.images[:, 0, 0])) ** 2
    low = spectrum[:, 100:1800].sum(axis=1) / spectrum.sum(axis=1)  # 1 Hz apart
    assert low.min() > 0.95


def test_the_filters_start_as_pairs_of_unit_waves_from_low_to_high():
    w = made().params["0/0/conv.w"][:, 0, 0]
    waves = w[::2] + 1j * w[1::2]
    np.testing.assert_allclose(np.linalg.norm(waves, axis=1), 1, rtol=1e-5)
    peaks = np.abs(np.fft.fft(waves, 4000)).argmax(axis=1)  # in Hz
    assert (np.diff(peaks) > 0).all() and 100 < peaks[0] < peaks[-1] < 1800
    mel = np.log1p(peaks / 700)
    np.testing.assert_allclose(np.diff(mel), np.diff(mel).mean(), atol=5e-3)


def test_the_low_pass_learns_its_width_alone():
    net = made()
    (pool,) = (layer for layer in net.graph.walk() if isinstance(layer, GaussianPool))
    assert (pool.learn, pool.kernels, pool.per_channel) == (("sigma",), 1, True)
    assert net.shapes[pool] == ((16, 1, 4000), (16, 1, 100))
    assert (pool.mean == 0).all()


@pytest.mark.parametrize("causal", [True, False])
def test_a_causal_frame_hears_nothing_that_comes_after_it(causal):
    net = made(causal=causal)
    front = net.graph.layers[0]
    x = np.random.default_rng(0).normal(size=(1, 1, 4000, 1)).astype("float32")
    before, after = (np.empty((16, 1, 100, 1), "float32") for _ in range(2))
    front.fprop(x, before, train=False)
    x[:, :, 2001:] = 5.0
    front.fprop(x, after, train=False)
    changed = (before != after).any(axis=(0, 1, 3))
    assert changed.argmax() == (51 if causal else 48)  # frame 50 ends at, or is around, sample 2000


def test_a_fixed_front_stays_as_it_starts():
    model = modelfile.load("leaf_front", learn=False, count=20)
    net, train = Net(model.net(), model.input_shape, 20, model.loss), model.datasets()[0]
    before = {path: value.copy() for path, value in net.params.items()}
    net.train_step(train.images.transpose(1, 2, 3, 0).copy(), train.labels, model.solver())
    for path, value in net.params.items():
        assert (value == before[path]).all() == path.startswith("0/"), path


def test_it_learns():
    model = modelfile.load("leaf_front", count=30, snr=10.0)
    net, train = Net(model.net(), model.input_shape, 30, model.loss, seed=1), model.datasets()[0]
    pool = next(layer for layer in net.graph.walk() if isinstance(layer, GaussianPool))
    first, x, solver = pool.sigma, train.images.transpose(1, 2, 3, 0).copy(), model.solver()
    losses = [net.train_step(x, train.labels, solver) for _ in range(10)]
    assert losses[-1] < 0.6 * losses[0]
    assert (pool.sigma[..., 1] != first[..., 1]).all() and (pool.mean == 0).all()
