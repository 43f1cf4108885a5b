"""What all solvers share: PyTorch's numbers, clipping, settings changed on the way, the protocol."""

import math

import numpy as np
import pytest
from of_solvers import bits, give, net_of, values_of

from minet import SGD, Adam, AdamW, MinetError, Net, SoftmaxCrossEntropy, Trainer, backends, data
from minet.core.files import FileError
from minet.layers import BatchNorm, Linear, PReLU
from minet.train import checkpoint
from minet.train.callbacks import Best, Checkpointer
from minet.train.optim import Solver
from minet.train.optim.solver import lacking

MAKES = {
    "SGD": lambda **clip: SGD(0.01, momentum=0.9, weight_decay=1e-3, **clip),
    "SGD nesterov": lambda **clip: SGD(0.01, momentum=0.9, nesterov=True, **clip),
    "Adam": lambda **clip: Adam(0.01, weight_decay=1e-3, **clip),
    "AdamW": lambda **clip: AdamW(0.01, betas=(0.8, 0.99), **clip),
}
TORCH = {
    "SGD": lambda torch, p: torch.optim.SGD(p, 0.01, momentum=0.9, weight_decay=1e-3),
    "SGD nesterov": lambda torch, p: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True),
    "Adam": lambda torch, p: torch.optim.Adam(p, 0.01, weight_decay=1e-3),
    "AdamW": lambda torch, p: torch.optim.AdamW(p, 0.01, betas=(0.8, 0.99)),
}
SHAPES = [(7, 3), (5,), (1,), (2, 3, 5)]


@pytest.fixture(params=MAKES)
def name(request):
    return request.param


@pytest.fixture
def make(name):
    return MAKES[name]


@pytest.mark.sweep(5)
@pytest.mark.parametrize(
    "clip", [{}, {"clip_norm": 2.0}, {"clip_value": 0.2}, {"clip_norm": 9.0, "clip_value": 0.5}]
)
def test_a_hundred_steps_are_those_of_pytorch(name, make, clip, place):
    torch = pytest.importorskip("torch")
    rng, be = np.random.default_rng(1), backends.get(*place)
    first = [rng.standard_normal(shape).astype(be.dtype) for shape in SHAPES]
    net, solver = net_of(be, *first), make(**clip)
    theirs = [torch.nn.Parameter(torch.from_numpy(w.copy())) for w in first]
    optimizer = TORCH[name](torch, theirs)
    for _ in range(100):
        grads = [rng.standard_normal(shape) * 2 ** rng.uniform(-4, 1) for shape in SHAPES]
        give(net, *grads)
        for parameter, grad in zip(theirs, grads, strict=True):
            parameter.grad = torch.from_numpy(grad.astype(be.dtype))
        if most := clip.get("clip_norm"):
            torch.nn.utils.clip_grad_norm_(theirs, most)
        if most := clip.get("clip_value"):
            torch.nn.utils.clip_grad_value_(theirs, most)
        solver.update(net)
        optimizer.step()
    tolerance = 1e-6 if be.dtype == np.float32 else 1e-13
    for ours, parameter in zip(values_of(net), theirs, strict=True):
        expected = parameter.detach().numpy()
        np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


def test_the_norm_is_that_of_all_gradients_but_frozen_ones(place):
    be = backends.get(*place)
    for factor, expected in ((1.0, 13 / (13 + 1e-6)), (0.1, 1.0)):
        net = net_of(be, np.zeros(2), np.zeros(2), np.zeros(1))
        frozen = net.slots[1]
        frozen.param = type(frozen.param)((2,), lr=0.0)
        give(net, np.array([3, 4]) * factor, [1e9, math.nan], np.array([12]) * factor)
        solver = SGD(1.0, clip_norm=13.0)
        solver.update(net)
        w = values_of(net)
        np.testing.assert_allclose(w[0], [-3 * factor * expected, -4 * factor * expected], rtol=3e-7)
        np.testing.assert_array_equal(w[1], [0, 0])
        give(net, [6, 8], [0, 0], [24])  # 26: halved
        solver.update(net)
        np.testing.assert_allclose(values_of(net)[0] - w[0], [-3, -4], rtol=1e-6)


@pytest.mark.parametrize("magnitude", [1e-18, 1.0, 1e18])
def test_the_norm_of_many_numbers_of_any_size(magnitude, place):
    be, rng = backends.get(*place), np.random.default_rng(0)
    grads = [rng.standard_normal(size) * magnitude for size in (100_003, 17, 3_000)]
    net = net_of(be, *(np.zeros_like(grad) for grad in grads), grads=grads)
    scale = be.clip_scale(net.slots, net.memory.flat_grads)
    norm = math.sqrt(sum((g.astype(be.dtype).astype(float) ** 2).sum() for g in grads))
    got = float(np.ravel(scale(norm / 4) if be.name == "cpu" else be.get(scale(norm / 4)))[0])
    assert got == pytest.approx(norm / 4 / (norm + 1e-6), rel=1e-12)


def test_a_norm_that_is_not_finite_shows(backend):
    net = net_of(backend, [1.0, 1.0], grads=[[math.nan, 1.0]])
    SGD(0.1, clip_norm=1.0).update(net)
    assert np.isnan(values_of(net)[0]).all()


def test_clipping_leaves_the_gradients_as_they_are(backend, make):
    net = net_of(backend, [1.0, 2.0], grads=[[30.0, 40.0]])
    make(clip_norm=1.0, clip_value=0.5).update(net)
    np.testing.assert_array_equal(net.be.get(net.slots[0].grad), [30, 40])


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.1}])
def test_launches_of_an_update_on_a_gpu(make, clip, monkeypatch):
    if why := backends.missing("emu"):
        pytest.skip(why)
    net, solver = net_of("emu", *(np.ones(shape) for shape in SHAPES)), make(**clip)
    solver.update(net)
    names, start = [], net.be.start
    monkeypatch.setattr(net.be, "start", lambda *args: (names.append(args[1].name), start(*args)))
    solver.update(net)
    assert names == ["squares", "clip_scale"] * bool(clip) + [f"{solver.stem}_steps"]


# -- settings that are changed --------------------------------------------------------------------------


CHANGES = [
    ("lr", math.nan, "'s lr must be a number above 0, got nan"),
    ("lr", -1, "'s lr must be a number above 0, got -1"),
    ("weight_decay", "1", "'s weight_decay must be a number of at least 0, got '1'"),
    ("clip_norm", math.inf, "'s clip_norm must be a number above 0, or None, got inf"),
    ("clip_value", 0.0, "'s clip_value must be a number above 0, or None, got 0.0"),
    ("schedule", 3, "'s schedule must be a function of the epoch, got 3"),
    ("schedule", lambda epoch: math.nan, "returned nan at epoch 0"),
    ("momentum", math.nan, r"SGD's momentum must be a number in \[0, 1\), got nan"),
    ("nesterov", None, "SGD's nesterov must be True or False, got None"),
    ("betas", (0.9, math.nan), r"'s betas must be two numbers in \[0, 1\), got \(0.9, nan\)"),
    ("eps", -1, "'s eps must be a number above 0, got -1"),
]
CHANGED = [(make, *change) for make in MAKES.values() for change in CHANGES if hasattr(make(), change[0])]


@pytest.mark.sweep(10)
@pytest.mark.parametrize(("make", "setting", "value", "message"), CHANGED)
def test_a_setting_that_became_invalid_is_refused_at_the_step(make, setting, value, message, backend):
    solver = make()
    net = Net([BatchNorm(), PReLU(), Linear(3)], (2, 4, 4), 6, SoftmaxCrossEntropy(), backend)
    x, labels = np.random.default_rng(0).standard_normal((2, 4, 4, 6)).astype(np.float32), np.arange(6) % 3
    net.train_step(x, labels, solver)
    before = bits(net, solver), {k: np.array(net.be.get(v)).tobytes() for k, v in net.persistent.items()}
    good = getattr(solver, setting)
    setattr(solver, setting, value)
    for step in (lambda: net.train_step(x, labels, solver), lambda: solver.update(net)):
        with pytest.raises(MinetError, match=message):
            step()
    setattr(solver, setting, good)
    assert net.clock.step == 1
    assert before == (
        bits(net, solver),
        {k: np.array(net.be.get(v)).tobytes() for k, v in net.persistent.items()},
    )
    assert np.isfinite(net.train_step(x, labels, solver))


# -- copies, and what they hold -------------------------------------------------------------------------


def test_a_solver_serves_one_net(make):
    net, other, solver = net_of("cpu", [1.0]), net_of("cpu", [1.0], grads=[[1.0]]), make()
    solver.update(net)
    for use in (solver.update, solver.state, solver.bind):
        with pytest.raises(MinetError, match="already serves another net"):
            use(other)
    np.testing.assert_array_equal(values_of(other)[0], [1.0])


# -- the protocol ---------------------------------------------------------------------------------------


class Sign:
    """w <- w - rate * sign(s), s the sum of the gradients: as small as a solver can be."""

    def __init__(self, lr):
        self.rate, self.epoch, self.sums = lr, 0.0, {}

    def state(self, net):
        if not self.sums:
            self.sums = {f"sum:{slot.path}": net.be.zeros(slot.value.shape) for slot in net.slots}
        return self.sums

    def update(self, net):
        for slot in net.slots:
            total = self.state(net)[f"sum:{slot.path}"]
            net.be.axpby(1.0, slot.grad, 1.0, total)
            net.be.axpby(-self.rate, net.be.array(np.sign(net.be.get(total))), 1.0, slot.value)


def digits_run(solver, epochs, backend="cpu", callbacks=()):
    net = Net([BatchNorm(), PReLU(), Linear(10)], (1, 8, 8), 32, SoftmaxCrossEntropy(), backend)
    return Trainer(net, solver, data.digits(limit=96), None, epochs, callbacks)


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    "make",
    [*MAKES.values(), lambda: Sign(0.01), lambda: AdamW(0.01, clip_norm=0.1, clip_value=0.05)],
    ids=[*MAKES, "own", "clipped"],
)
def test_a_resumed_run_is_bit_for_bit_an_uninterrupted_one(make, backend, tmp_path):
    whole, first, second = (
        digits_run(make(), 3, backend),
        digits_run(make(), 1, backend),
        digits_run(make(), 3, backend),
    )
    whole.fit()
    first.fit()
    checkpoint.save(tmp_path / "w", first.net, first.solver)
    checkpoint.load(tmp_path / "w", second.net, second.solver)
    assert bits(second.net, second.solver) == bits(first.net, first.solver)
    second.epoch = 1
    second.fit()
    assert bits(second.net, second.solver) == bits(whole.net, whole.solver)


def test_a_solver_of_another_kind_is_refused(tmp_path):
    kept = {"SGD": "velocity", "Adam": "moment1, moment2, updates", "Sign": "sum"}
    makes = {"SGD": lambda: SGD(0.1), "Adam": Adam, "Sign": lambda: Sign(0.1)}
    for name, make in makes.items():
        run = digits_run(make(), 1)
        run.fit()
        checkpoint.save(tmp_path / name, run.net, run.solver)
        for other, made in makes.items():
            new = digits_run(made(), 1)
            before = [value.copy() for value in new.net.params.values()]
            if name == other:
                checkpoint.load(tmp_path / name, new.net, new.solver)
                continue
            message = f"{name}: is of another solver, which keeps {kept[name]}; {other} keeps {kept[other]}\n"
            with pytest.raises(FileError, match=message + "  hint: resume with the solver"):
                checkpoint.load(tmp_path / name, new.net, new.solver)
            for value, old in zip(new.net.params.values(), before, strict=True):
                np.testing.assert_array_equal(value, old)
        new.net.load(tmp_path / name)  # its parameters alone
        np.testing.assert_array_equal(new.net.params["2/linear.w"], run.net.params["2/linear.w"])


def test_a_file_without_a_solver_leaves_it_as_it_is(tmp_path):
    run = digits_run(Adam(), 1)
    run.fit()
    before = bits(run.net, run.solver)
    run.net.save(tmp_path / "w")
    checkpoint.load(tmp_path / "w", run.net, run.solver)
    assert bits(run.net, run.solver) == before


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda net: None, r"Mine\.state\(net\) returned nothing \(None\), not a dict of arrays\n  hint: is"),
        (
            lambda net: dict(net.params),
            r"calls an array '0/batch_norm.gamma', .*\n  hint: \"velocity:0/batch_norm",
        ),
        (lambda net: {"callback:x": net.params["2/linear.w"]}, "calls an array 'callback:x'"),
        (
            lambda net: {"count:": 0},
            r"has 0 of type int as 'count:', which is no array of numbers\n  hint: ne",
        ),
        (lambda net: {"a:b": np.array([None])}, "which is no array of numbers"),
        (
            lambda net: {"a:b": np.zeros(3)},
            "returns another array as 'a:b' at each call\n  hint: make it once",
        ),
    ],
)
def test_a_state_that_no_run_could_go_on_with_is_refused_before_the_first_epoch(state, message, tmp_path):
    members = {"state": lambda self, net: state(net), "update": lambda self, net: None}
    solver = type("Mine", (Sign,), members)(0.1)
    run = digits_run(solver, 1)
    for saving in (Checkpointer(tmp_path), Best(file=tmp_path / "best")):
        run.callbacks = [saving]
        with pytest.raises(MinetError, match=message):
            run.fit()
    assert run.net.clock.step == 0 and not [*tmp_path.iterdir()]
    with pytest.raises(MinetError, match=message):
        checkpoint.save(tmp_path / "w", run.net, solver)
    run.callbacks = []
    run.fit()  # as nothing is saved


def test_a_state_of_views_is_as_good(tmp_path):
    memory = np.zeros(8)
    solver = type("Mine", (Sign,), {"state": lambda self, net: {"a:": memory[:4], "b:": memory[:0]}})(0.1)
    checkpoint.save(tmp_path / "w", digits_run(solver, 1).net, solver)


def test_what_an_object_lacks():
    assert lacking(SGD(0.1)) == lacking(Adam()) == lacking(Sign(0.1)) == []
    assert lacking(SGD(0.1, schedule=lambda epoch: 1 / 0)) == []  # nothing is called
    assert lacking(0.1) == lacking(SGD) == ["update", "rate", "epoch", "state"]
    solver: Solver = SGD(0.1)
    assert solver.rate == 0.1

    class Half:
        epoch = 0.0

        def update(self, net):
            pass

    assert lacking(Half()) == ["rate", "state"]
    with pytest.raises(
        MinetError, match=r"(?s)Half object .*is not a solver: it has no rate, state.*hint: SGD"
    ):
        digits_run(Half(), 1)
    net = Net([Linear(3)], (2, 1, 1), 3, SoftmaxCrossEntropy())
    assert np.isfinite(net.train_step(np.ones((2, 1, 1, 3)), np.arange(3), Half()))  # which asks for less
