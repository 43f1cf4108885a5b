"""The conformance kit itself: it passes correct layers and catches each broken one of the zoo by name."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import zoo
import zoo_cuda
from zoo import BROKEN, RIGHT, Centre, Noise, Tallest, Toy

from minet import Concat, Layer, MeanSquaredError, MinetError, Param, Sequential, State, Sum, backends, update
from minet.backends.host_fallback import HostWarning
from minet.core.rng import uniform
from minet.layers import BatchNorm, Conv, Identity
from minet.testing import CHECKS, Check, Report, check_layer, check_loss, layer_checks, run, run_check
from minet.testing.harness import CheckFailed, differing, expect, multiple, values
from minet.testing.layerfile import all_examples, classes

# Skipped without draws, a NumPy version, a kernel, g++ or a GPU.
SKIPPED = {"draws", "numpy_version", "thread_order", "parity_emu", "parity_cuda"}
needs_gxx = pytest.mark.skipif(bool(backends.missing("emu")), reason=f"no g++: {backends.missing('emu')}")


def example(cls):
    return next(iter(cls.examples()))


def numbers(*shape):
    return np.sin(np.arange(1.0, 1 + np.prod(shape))).reshape(shape)


def test_a_backend_that_is_handed_in_goes_on_looking_at_first_calls():
    be = backends.get("cpu")
    assert check_layer(Identity, (2, 3, 4), backend=be).ok
    assert check_loss(MeanSquaredError, (2, 1, 1), np.ones((2, 1, 1, 3)), backend=be).ok
    assert be.tried == set()


# -- the zoo ----------------------------------------------------------------------------------------


@pytest.mark.sweep(15)
@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_layer_is_caught_by_name(cls):
    report = check_layer(*example(cls))
    assert not report.ok
    assert {check.name for check in report.failed} == {cls.breaks, *cls.also}, report.full()
    first, last = report.failed[0], str(report).splitlines()[-1]
    assert first.name == cls.breaks and re.search(r"zoo\.py:\d+", first.place + first.detail)
    assert last.startswith(f"  also fails: {report.failed[1].name}") if cls.also else first.place in last


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_failure_explains_itself(cls):
    for check in check_layer(*example(cls)).failed:
        found, _, why = check.detail.partition("\n")
        assert why.startswith(("likely cause: ", "the contract: ")) and len(why) > 20
        pattern = (
            r"expected .+, got .+|was not written|was written|not finite|\w+ at .*zoo.py:\d+: .+"
            r"|draws of training are the same|alone: \w+: .+"
        )
        assert re.search(pattern, found), check.detail


@needs_gxx
@pytest.mark.parametrize("cls", zoo_cuda.BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_kernel_is_caught_by_name(cls):
    report = check_layer(*example(cls), backend=cls.on)
    (failed,) = report.failed
    assert failed.name == cls.breaks, str(report)
    pattern = r"[\w.]+(\[.*\])?: expected .+, got .+\nlikely cause: .{20}"
    assert re.match(pattern, failed.detail), failed.detail


@needs_gxx
@pytest.mark.parametrize("cls", zoo_cuda.RIGHT, ids=lambda cls: cls.__name__)
def test_a_correct_kernel_passes_everything(cls):
    report = check_layer(*example(cls), backend="emu")
    assert report.ok, str(report)
    skipped = {check.name for check in report.checks if check.status == "SKIP"}
    assert (
        skipped
        == {"gradient", "gradient_eval", "draws", "float32", "numpy_version", "parity_cuda"}
        - _on_this_machine()
    )
    assert check_layer(*example(cls), backend=backends.get("emu", order="reversed")).ok


def _on_this_machine():
    return set() if backends.missing("cuda") else {"parity_cuda"}


@needs_gxx
def test_a_layer_without_a_kernel_is_checked_on_the_host_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check_layer(*example(Centre), backend="emu")
    assert report.ok, str(report)
    why = {check.name: check.detail for check in report.checks if check.status == "SKIP"}
    assert why["thread_order"] == why["parity_emu"] == "Centre has no kernel: it computes on the host"
    with pytest.warns(HostWarning, match=r"^Centre .* has no kernel: it computes on the host"):
        run(Centre(), numbers(2, 3, 4, 5), backend="emu", dtype="float32")


@pytest.mark.parametrize("name", sorted(set(CHECKS) - {"parity_cuda"}))  # parity_emu on another device
def test_every_check_has_its_broken_layer(name):
    assert any(cls.breaks == name for cls in [*BROKEN, *zoo_cuda.BROKEN])


def test_the_page_lists_every_check_with_its_promise():
    page = Path(zoo.__file__).parents[2] / "docs/reference/testing.md"
    shown = re.findall(r"^\| `(\w+)` \| (.+) \|$", page.read_text(), re.MULTILINE)
    assert shown == [
        (name, check.__doc__.splitlines()[0].replace("``", "`")) for name, check in CHECKS.items()
    ]


def test_zoo_layers_name_existing_checks():
    for cls in [*BROKEN, *zoo_cuda.BROKEN]:
        assert {cls.breaks, *cls.also} <= set(CHECKS) and cls.breaks not in cls.also
    assert len(BROKEN) > len(CHECKS)
    assert all(cls.__doc__ for cls in [*BROKEN, *zoo_cuda.BROKEN])


def test_the_zoo_is_a_file_to_check_on_the_command_line():
    found = [cls.__name__ for cls in classes(zoo.__file__)]
    assert sorted(found) == sorted(cls.__name__ for cls in (*RIGHT, *BROKEN))
    [(make, in_shape)] = all_examples(f"{zoo.__file__}:BetaIgnored")
    assert [check.name for check in check_layer(make, in_shape).failed] == ["beta_y"]


@pytest.mark.parametrize("cls", RIGHT, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_correct_layer_passes_everything(cls, batch):
    report = check_layer(*example(cls), batch=batch)
    assert report.ok, str(report)
    skipped = {check.name for check in report.checks if check.status == "SKIP"}
    assert skipped <= SKIPPED and [check.name for check in report.checks] == list(CHECKS)


def test_only_a_broken_layer_fails_a_graph():
    report = check_layer(lambda: Sequential(Toy(), Sum(Identity(), zoo.BetaIgnored())), (2, 3, 4))
    assert "beta_y" in {check.name for check in report.failed}
    assert check_layer(lambda: Sequential(zoo.BetaIgnored(), Concat(Toy(), Toy())), (2, 3, 4)).ok


@pytest.mark.parametrize(
    ("cls", "name", "detail"),
    [
        (
            zoo.BetaIgnored,
            "beta_y",
            r"y\[\d, \d, \d, \d\]: expected 0\.\d+, got 0\.\d+\n"
            r"likely cause: at beta 0.5, train=True, fprop must write beta\*y \+ f\(x\)",
        ),
        (zoo.EdgeUnwritten, "shape", r"y\[0, 5, 0, 0\] was not written\nlikely cause: .* ends early"),
        (zoo.InPlace, "untouched", r"x after fprop\[.*\]: expected .*\nlikely cause: .* in place"),
        (zoo.ErrorScaled, "untouched", r"dy after bprop\[.*\]: expected .*\nlikely cause: .* dy in place"),
        (zoo.ParameterForgotten, "gradient", r"parameter_forgotten\.a\[\d, 0, 0, 0\]: expected"),
        (zoo.ByteArgmax, "gradient", r"dx along a random direction: expected .*\n.*not probed one by one"),
        (zoo.CountsOnDx, "need_dx", r"TypeError at .*zoo\.py:\d+: 'NoneType' .*\nthe contract: With dx=None"),
        (
            zoo.NoDxOverwrites,
            "need_dx",
            r"no_dx_overwrites\.a.*\nlikely cause: where dx is None: .* \+=, not =",
        ),
        (zoo.NoDxNoGradient, "need_dx", r".*\nlikely cause: .* only if dx is given"),
        (zoo.SharedSlope, "determinism", r"dx.*\nlikely cause: another layer of its class changes it"),
        (zoo.ConsumesState, "bprop_again", r"dx.*\nlikely cause: a second bprop of one fprop differs"),
        (zoo.KeepsScratch, "bprop_again", r"dx.*, got nan\nlikely cause: bprop reads scratch of fprop's"),
        (zoo.StatisticsInBprop, "bprop_again", r"\w+\.mean.*\nlikely cause: bprop updates running stat"),
        (
            zoo.HiddenCount,
            "save_load",
            r"where hidden_count.steps is 10000, y\[.*\n.*each step changes self\.steps",
        ),
        (zoo.SameInEachLayer, "draws", r"the draws .* wherever the layer is in the net\n.* self\.key"),
        (zoo.SameForEachSeed, "draws", r"the draws of training are the same for every seed\n.* self\.key"),
        (
            zoo.SameAtEachStep,
            "draws",
            r"the draws of training are the same at every step\n.* self\.clock\.step",
        ),
        (zoo.SameInEachPart, "draws", r"samples 0 to 6 of 14 alone: y\[.*\n.*a part of a batch"),
        (zoo.NumbersAlone, "draws", r"samples 0 to 6 of 14 alone: TypeError: .*\n.*a part of a batch"),
        (zoo.HalvesAnything, "bad_shapes", r"input \(1, 1, 1\): expected a result, got ValueError: cannot"),
        (zoo.WrongError, "bad_shapes", r"input \(1, 1, 1\): expected a LayerError or a net, got Assertion"),
        (zoo.BeyondItsSlice, "slices", r"memory next to y was written\nlikely cause: a loop runs past"),
        (zoo.OthersMean, "batch_sizes", r"y is not finite at N = 1\nlikely cause: a statistic divides"),
        (zoo.BatchInEval, "batch_sizes", r"sample 0 alone: y\[.*\n.*samples are mixed in evaluation"),
    ],
)
def test_messages_of_failures(cls, name, detail):
    check = run_check(name, *example(cls))
    assert check.status == "FAIL" and re.match(detail, check.detail), check.detail


def test_a_loop_that_writes_nothing_is_not_reported_as_ending_early():
    class Lazy(Toy):
        def fprop_cpu(self, x, y, beta, train):
            pass

    assert run_check("shape", Lazy, (2, 3, 4)).detail.startswith("no element of y was written")


def test_a_layer_that_always_gives_nan_fails_although_nan_equals_nan():
    class Log(Toy):
        def fprop_cpu(self, x, y, beta, train):
            y[...] = np.nan

    check = run_check("poison", Log, (2, 3, 4))
    assert check.detail.startswith("y is not finite, although x and dy are")


def test_an_exception_is_placed_in_the_layer_not_in_numpy():
    class Stacks(Toy):
        def fprop_cpu(self, x, y, beta, train):
            np.stack([x, x[:, :1]])

    check = run_check("shape", Stacks, (2, 3, 4))
    assert re.match(r"ValueError at .*test_testing\.py:\d+: all input arrays must have", check.detail)


def test_what_draws_nothing_or_mixes_samples_is_not_held_to_draws_by_sample():
    class Schedule(Toy):
        def fprop_cpu(self, x, y, beta, train):
            self.times = np.float32(1 / (1 + self.clock.step) if train else 1)
            update(y, self.times * self.p.a * np.tanh(x), beta)

        def bprop_cpu(self, x, dy, dx, beta):
            super().bprop_cpu(x, self.times * dy, dx, beta)

    class SameForAllSamples(Noise):
        def draw(self, shape):
            return uniform(self.key, int(self.clock.step), (*shape[:-1], 1)) + np.zeros(shape)

    assert check_layer(Schedule, (2, 3, 4)).ok
    assert run_check("draws", Schedule, (2, 3, 4)).detail == "nothing is drawn in training"
    for make in (SameForAllSamples, lambda: Sequential(Noise(), Centre())):
        assert run_check("draws", make, (2, 3, 4)).status == "PASS"


def test_a_number_on_which_nothing_depends_may_change():
    class Counts(Toy):
        calls = 0

        def fprop_cpu(self, x, y, beta, train):
            self.calls += 1
            super().fprop_cpu(x, y, beta, train)

    assert run_check("save_load", Counts, (2, 3, 4)).status == "PASS"


def test_persistent_state_may_be_a_bool():
    class Seen(Toy):
        def state(self, in_shape, out_shape):
            return {"seen": State((1,), "bool", per_sample=False, persistent=True)}

        def fprop_cpu(self, x, y, beta, train):
            self.s.seen |= train
            super().fprop_cpu(x, y, beta, train)

    assert check_layer(Seen, (2, 3, 4)).ok
    with pytest.raises(CheckFailed, match=r"^y\[0\]: expected 1, got 0"):
        expect(np.array([False]), np.array([True]), "y", "why", 0.0)


def test_make_must_return_a_new_layer():
    layer = Toy()
    check = run_check("determinism", lambda: layer, (2, 3, 4))
    assert check.detail.startswith("make() returned the same object again")
    assert "it must make a new layer each time" in check.detail


def test_frozen_parameters_need_no_gradient():
    class Frozen(Toy):
        def params(self, in_shape):
            return {"a": Param((in_shape[0], 1, 1, 1), 0.7, lr=0.0)}

        def bprop_cpu(self, x, dy, dx, beta):
            kept = self.g.a.copy()
            super().bprop_cpu(x, dy, dx, beta)
            self.g.a[...] = kept

    report = check_layer(Frozen, (2, 3, 4))
    assert report.ok, str(report)


def test_parameters_move_within_their_bounds():
    class Bounded(Toy):
        def params(self, in_shape):
            return {"a": Param((50, 1, 1, 1), 0.7, bounds=self.bounds)}

        def fprop_cpu(self, x, y, beta, train):
            low, high = self.bounds or (None, None)
            assert low is None or self.p.a.min() >= low
            assert high is None or self.p.a.max() <= high
            super().fprop_cpu(x, y, beta, train)

    for bounds in (None, (0.69, None), (None, 0.71), (0.69, 0.71), (None, None)):
        Bounded.bounds = bounds
        assert run_check("shape", Bounded, (50, 2, 1)).status == "PASS"


def test_state_of_any_type_is_poisoned():
    class Typed(Toy):
        def state(self, in_shape, out_shape):
            types = ("bool", "uint8", "int8", "int64", "float16", "float32", "complex64")
            return {name: State((1,), name) for name in types} | {
                "fixed": State((1,), per_sample=False, init=5)
            }

        def fprop_cpu(self, x, y, beta, train):
            s = self.s
            assert s.bool.all() and (s.uint8 == 255).all() and (s.int8 == 127).all()
            assert (s.int64 == 2**63 - 1).all() and (s.fixed == 5).all()
            assert all(np.isnan(a).all() for a in (s.float16, s.float32, s.complex64))
            super().fprop_cpu(x, y, beta, train)

    assert run_check("slices", Typed, (2, 3, 4)).status == "PASS"


def test_a_gradient_that_must_vanish_is_no_failure():
    # The slope of a bias before BatchNorm, or of anything before a layer that ignores it, is only rounding.
    report = check_layer(lambda: Sequential(Conv(4, 3), BatchNorm(), Toy()), (2, 5, 6), batch=8)
    assert report.ok, str(report)


# -- reports ----------------------------------------------------------------------------------------


def test_a_report_lists_every_check():
    report = check_layer(zoo.NoDxNoGradient, (4, 6, 5), batch=2)
    lines = report.full().splitlines()
    assert lines[0] == report.title == "NoDxNoGradient() on (4, 6, 5), batch 2, cpu"
    assert [line.split()[1] for line in lines if line.startswith("  PASS") or line.startswith("  FAIL")] == [
        check.name for check in report.checks if check.status != "SKIP"
    ]
    (failed,) = report.failed
    assert failed.name == "need_dx" and not report.ok
    at = next(i for i, line in enumerate(lines) if "FAIL" in line)
    assert lines[at].startswith("  FAIL  need_dx        no_dx_no_gradient.a[")
    assert lines[at + 1].strip().startswith("likely cause:") and lines[at + 1].startswith(" " * 20)


def test_a_report_opens_with_the_first_cause_and_its_place():
    report = check_layer(*example(zoo.ErrorScaled))
    title, first, why, at, also = str(report).splitlines()
    assert title == "ErrorScaled() on (4, 6, 5), batch 3, cpu"
    assert re.match(r"  FAIL  untouched  dy after bprop\[.*\]: expected ", first)
    assert why.strip() == "likely cause: the layer scales or masks dy in place"
    assert re.fullmatch(r" +at tests/helpers/zoo\.py:\d+, bprop_cpu", at)
    assert also == f"  also fails: {', '.join(check.name for check in report.failed[1:])}"


def test_a_report_of_one_line():
    assert check_layer(*example(Toy)).line().startswith("ok    Toy() on (4, 6, 5), batch 3, cpu: ")
    line = check_layer(*example(zoo.ErrorScaled)).line()
    pattern = (
        r"FAIL  ErrorScaled\(\) on \(4, 6, 5\), batch 3, cpu: untouched \(and \d+ more\): dy after bprop\[.*"
    )
    assert re.fullmatch(pattern + r" at tests/helpers/zoo\.py:\d+, bprop_cpu", line)


def test_an_exception_of_the_layer_is_not_blamed_on_its_shapes():
    class Fails(Toy):
        def bprop_cpu(self, x, dy, dx, beta):
            dx.nothing

    report = check_layer(Fails, (2, 3, 4))
    assert re.search(r"FAIL  shape  AttributeError at tests/testing/test_testing\.py:\d+: ", str(report))
    assert "out_shape" not in report.full()


@pytest.mark.parametrize(
    ("factor", "found"),
    [(2, "2 times the expected values everywhere: added twice."), (-1, "-1 times .*: a wrong sign."),
     (0.25, "0.25 times .*: a wrong factor."), (1e-3, "0.001 times .*: a wrong factor.")],
)  # fmt: skip
def test_a_constant_multiple_is_said_to_be_one(factor, found):
    class Dx(Toy):
        def slope(self, x):
            return factor * super().slope(x)

    class Gradient(Toy):
        def bprop_cpu(self, x, dy, dx, beta):
            super().bprop_cpu(x, dy * x.dtype.type(factor), None, beta)
            super().bprop_cpu(x, dy, dx, beta)
            if factor == 1:
                self.g.a *= 2

    check = run_check("gradient", Dx, (2, 3, 4))
    assert re.fullmatch(rf"dx\[.*\]: expected .*\nlikely cause: {found}", check.detail)
    detail = run_check("gradient", Gradient, (2, 3, 4)).detail
    assert re.search(
        rf"gradient\.a\[.*\nlikely cause: {1 + factor:g} times the expected", detail
    ) or factor in (-1, 1e-3)


def test_what_is_no_multiple():
    numbers = np.arange(1.0, 9.0)
    assert multiple(2 * numbers, numbers) and multiple(np.array([2.0]), np.array([1.0]))
    for got in (numbers, 0 * numbers, numbers + 1, numbers**2, numbers + np.nan, 2 * numbers + (numbers > 7)):
        assert multiple(got, numbers) == ""
    assert multiple(np.array([3.0]), np.array([1.0])) == multiple(numbers, 0 * numbers) == ""


def test_nan_is_never_expected():
    class Log(Toy):
        def fprop_cpu(self, x, y, beta, train):
            with np.errstate(invalid="ignore"):
                update(y, self.p.a * np.log(x), beta)

        def slope(self, x):
            return self.p.a / x

    class Nothing(Toy):
        def bprop_cpu(self, x, dy, dx, beta):
            super().bprop_cpu(x, dy * np.nan, dx, beta)

    report = check_layer(Log, (2, 3, 4))
    assert report.failed[0].name == "poison"
    detail = {check.name: check.detail for check in report.failed}["gradient"]
    assert re.match(r"dx\[.*\] has no central difference: a result next to it is not finite\nlikely", detail)
    for one in (report, check_layer(Nothing, (2, 3, 4))):
        assert not one.ok and "expected nan" not in one.full()


def test_what_differs_is_printed_with_digits_that_differ():
    assert differing(0.5, 0.25) == "expected 0.5, got 0.25"
    found = differing(1 / 3, np.nextafter(1 / 3, 1))
    assert re.fullmatch(r"expected 0\.3{16}\d*, got 0\.3{16}\d*", found) and len(set(found.split(", "))) == 2


def test_warnings_are_told_once_with_the_line_of_the_layer():
    class Warns(Toy):
        def fprop_cpu(self, x, y, beta, train):
            np.log(np.zeros(2)).mean()
            np.empty((0, 3)).mean()
            super().fprop_cpu(x, y, beta, train)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check_layer(Warns, (2, 3, 4))
    assert report.ok
    zero, *empty = report.warnings
    assert re.fullmatch(r"divide by zero encountered in log at tests/testing/test_testing\.py:\d+", zero)
    line = int(zero.rpartition(":")[2]) + 1
    assert [text.rpartition(" ")[2] for text in empty] == [f"tests/testing/test_testing.py:{line}"] * len(
        empty
    )
    assert "Mean of empty slice" in empty[0] and str(report).count("warning:") == len(report.warnings) <= 3
    test = layer_checks(type("Warns", (Warns,), {"examples": Toy.examples}))
    with pytest.warns(UserWarning, match="divide by zero|Mean of empty|invalid value"):
        test(Warns, (2, 3, 4), "shape")


def test_a_numpy_version_is_compared_with_the_loops():
    for name in ("fprop", "bprop"):

        class Kept(Toy):
            pass

        setattr(Kept, f"{name}_numpy", getattr(Toy, f"{name}_cpu"))
        assert run_check("numpy_version", Kept, (2, 3, 4)).status == "PASS"

        def off(self, x, out, *rest, name=name):
            getattr(Toy, f"{name}_cpu")(self, x * 1.001, out, *rest)

        setattr(Kept, f"{name}_numpy", off)
        check = run_check("numpy_version", lambda: Sequential(Toy(), Kept()), (2, 3, 4))
        assert (
            check.status == "FAIL" and "the loops do not compute what the NumPy version does" in check.detail
        )


def test_magnitude_names_the_input_and_the_cause():
    over, under = (run_check("magnitude", *example(cls)).detail for cls in (zoo.SmoothMaximum, zoo.PowerMean))
    assert re.match(
        r"y\[.*\] for x from -80 to 100: expected 9\d.*, got inf\n.*subtract the maximum first", over
    )
    assert re.match(r"y\[.*\] for x up to 0.01: expected 0\.0\d+, got 0\n.*divide by the largest", under)


def test_magnitude_fails_at_a_nan_for_x_of_0_alone():
    class Norm(Toy):
        def fprop_cpu(self, x, y, beta, train):
            update(y, np.sqrt(x * x), beta)

        def bprop_cpu(self, x, dy, dx, beta):
            if dx is not None:
                update(dx, dy * x / np.sqrt(x * x), beta)

    check = run_check("magnitude", Norm, (2, 3, 4))
    assert re.match(r"dx\[0, 0, 0, 0\] for x of 0: expected a number, got nan\n.*: 0 / 0", check.detail)


def test_what_fprop_rounds_away_is_told():
    class Whole(Toy):
        def fprop_cpu(self, x, y, beta, train):
            update(y, np.floor(x), beta)

    check = run_check("gradient", Whole, (2, 3, 4))
    assert re.match(
        r"dx\[.*\]: expected 0, got .*\nlikely cause: fprop rounds .* or does not use x$", check.detail
    )


def test_initial_values_that_params_draws_by_itself_are_told():
    class Drawn(Toy):
        def params(self, in_shape):
            return {
                "a": Param(
                    (in_shape[0], 1, 1, 1), np.random.default_rng().normal(size=(in_shape[0], 1, 1, 1))
                )
            }

    for backend in ("cpu", *(() if backends.missing("emu") else ("emu",))):
        check = run_check("determinism", Drawn, (2, 3, 4), backend=backend)
        assert re.match(r"the first value of drawn\.a\[.*\n.*init\(shape, rng\) such as He\(\)", check.detail)
        assert check.place.endswith(", params")


def test_ok_is_no_failure():
    checks = [Check("a", "PASS"), Check("b", "SKIP", "why")]
    assert Report("t", checks).ok and str(Report("t", checks)) == "t\n  PASS  a\n  SKIP  b  why"
    assert not Report("t", [*checks, Check("c", "FAIL")]).ok


def test_a_report_is_a_table_in_a_notebook():
    check = Check("beta_y", "FAIL", "y[0] < 1\n  hint: beta", "swish.py:3", ("swish.py:4: overflow",))
    html = Report("Swish()", [Check("shape", "PASS"), check])._repr_html_()
    assert html.count("<tr>") == 2
    assert "y[0] &lt; 1<br>  hint: beta<br>swish.py:3" in html
    assert "warning: swish.py:4: overflow" in html


def test_layer_checks_are_pytest_cases():
    test = layer_checks(Toy)
    (mark,) = test.pytestmark
    ids = [case.id for case in mark.args[1]]
    assert len(ids) == len(CHECKS) == len(set(ids))
    assert ids[0] == "shape-Toy()(4,6,5)"
    for case in mark.args[1]:
        if case.values[2] not in SKIPPED:
            test(*case.values)


def test_layer_checks_fail_and_skip_as_pytest_does():
    test = layer_checks(zoo.BetaIgnored)
    with pytest.raises(pytest.fail.Exception, match=r"^BetaIgnored\(\) on \(4, 6, 5\): beta_y: y\[.*"):
        test(*example(zoo.BetaIgnored), "beta_y")
    test(*example(zoo.BetaIgnored), "beta_dx")
    with pytest.raises(pytest.skip.Exception, match="differences need float64"):
        layer_checks(Toy, backend="emu")(Toy, (4, 6, 5), "gradient")


def test_layer_checks_need_examples():
    class Without(Toy):
        @classmethod
        def examples(cls):
            return []

    with pytest.raises(NotImplementedError, match=r"Without\.examples\(\) yields nothing to check"):
        layer_checks(Without)
    with pytest.raises(NotImplementedError, match=r"Layer has no examples\(\)"):
        layer_checks(Layer)


# -- run --------------------------------------------------------------------------------------------


def test_run_by_hand():
    x, dy = numbers(2, 3, 4, 5), numbers(2, 3, 4, 5) * 2
    out = run(Toy(), x, dy, params={"a": np.full((2, 1, 1, 1), 3.0)})
    np.testing.assert_allclose(out.y, 3 * np.tanh(x), rtol=1e-12)
    np.testing.assert_allclose(out.dx, 3 * dy * (1 - np.tanh(x) ** 2), rtol=1e-12)
    np.testing.assert_allclose(out.grads.a.ravel(), (dy * np.tanh(x)).sum(axis=(1, 2, 3)), rtol=1e-12)
    assert out.y.dtype == np.float64 and out.state == {}


def test_run_with_betas():
    x, dy, y0, dx0 = (numbers(2, 3, 4, 5) + k for k in range(4))
    plain = run(Toy(), x, dy)
    out = run(Toy(), x, dy, beta_y=0.5, y0=y0, beta_dx=-2.0, dx0=dx0)
    np.testing.assert_allclose(out.y, 0.5 * y0 + plain.y)
    np.testing.assert_allclose(out.dx, -2.0 * dx0 + plain.dx)
    assert np.isnan(run(Toy(), x, beta_y=0.5).y).all()


def test_run_without_a_dy():
    out = run(Toy(), numbers(2, 3, 4, 5))
    assert out.dx is None and out.grads == {}


def test_run_takes_its_type_from_x():
    x = numbers(2, 3, 4, 5)
    assert run(Toy(), x.astype("float32"), x).dx.dtype == np.float32
    assert run(Toy(), np.ones((1, 2, 3, 1), int)).y.dtype == np.float32
    assert run(Toy(), x, dtype="float32").y.dtype == np.float32


def test_run_leaves_its_arguments_alone():
    layer, x, dy = Toy(), numbers(2, 3, 4, 5), numbers(2, 3, 4, 5)
    kept_x, kept_dy, dx0 = x.copy(), dy.copy(), np.ones_like(x)
    before = vars(layer).copy()
    one = run(layer, x, dy, beta_dx=1.0, dx0=dx0)
    assert vars(layer) == before and not layer.bound
    assert (x == kept_x).all() and (dy == kept_dy).all() and (dx0 == 1).all()
    two = run(layer, x, dy, beta_dx=1.0, dx0=dx0)
    assert (one.dx == two.dx).all() and one.dx is not two.dx


def test_run_takes_arrays_of_any_layout():
    x = numbers(5, 2, 3, 4).transpose(1, 2, 3, 0)
    assert not x.flags.c_contiguous
    np.testing.assert_array_equal(run(Toy(), x, x).dx, run(Toy(), x.copy(order="C"), x.copy(order="C")).dx)


def test_run_modes_seeds_and_steps():
    x = numbers(2, 3, 4, 5)
    y = run(Noise(), x).y
    np.testing.assert_array_equal(run(Noise(), x).y, y)
    assert (run(Noise(), x, seed=1).y != y).any() and (run(Noise(), x, step=1).y != y).any()
    np.testing.assert_array_equal(run(Noise(), x, train=False).y, x)


def test_run_returns_state_and_paths():
    x = numbers(2, 3, 4, 5)
    out = run(Tallest(), x)
    np.testing.assert_array_equal(out.state.row[:, 0], x.argmax(axis=1))
    np.testing.assert_allclose(run(Centre(), x).state.mean.ravel(), 0.1 * x.mean(axis=(1, 2, 3)))
    graph = Sequential(Toy(), Sum(Identity(), Centre()))
    out = run(graph, x, x, params={"0/toy.a": np.ones((2, 1, 1, 1))})
    assert set(out.grads) == {"0/toy.a"} and set(out.state) == {"sequential.y0", "1/1/centre.mean"}
    np.testing.assert_allclose(out.state["sequential.y0"], np.tanh(x))


def test_run_keeps_twins():
    toy = Toy()
    x = numbers(2, 3, 4, 5)
    out = run(Sequential(toy, toy.twin()), x, x, params={"0/toy.a": np.full((2, 1, 1, 1), 3.0)})
    np.testing.assert_allclose(out.y, 3 * np.tanh(3 * np.tanh(x)))
    assert list(out.grads) == ["0/toy.a"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": np.zeros((2, 3, 4))}, r"x must be \(C, H, W, N\), got shape \(2, 3, 4\)"),
        ({"dy": np.zeros((2, 3, 4, 1))}, r"dy must have y's shape \(2, 3, 4, 5\), got \(2, 3, 4, 1\)"),
        ({"y0": np.zeros((2, 3, 4))}, r"y0 must have shape \(2, 3, 4, 5\), got \(2, 3, 4\)"),
        ({"dx0": 0.0}, r"dx0 must have shape \(2, 3, 4, 5\), got \(\)"),
        ({"params": {"b": 1}}, r"there is no parameter 'b'\n  hint: the parameters are: a"),
        ({"params": {"a": [1.0, 2.0]}}, r"a has shape \(2, 1, 1, 1\), got \(2,\)"),
    ],
)
def test_run_refuses(options, message):
    with pytest.raises(MinetError, match=message):
        run(Toy(), **({"x": numbers(2, 3, 4, 5), "dy": numbers(2, 3, 4, 5)} | options))


# -- the rig's tools --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (3, 5, 3, 1), (4, 6)])
def test_values_are_apart_from_each_other_and_from_the_kink_at_0(shape):
    found = values(shape, "x")
    assert found.shape == shape
    np.testing.assert_array_equal(values(shape, "x"), found)
    ordered = np.sort(np.append(found.ravel(), 0))
    assert np.diff(ordered).min() >= 0.5 / found.size
    assert abs(ordered).max() <= 1 and abs(found.mean()) > 0.01  # a sum of 0 would hide mistakes
    if found.size > 2:
        assert (values(shape, "dy") != found).any()


def test_expect_names_the_worst_element():
    expected = np.array([[1.0, 2.0], [3.0, 4.0]])
    expect(expected * (1 + 1e-12), expected, "y", "")
    with pytest.raises(CheckFailed, match=r"^y\[1, 0\]: expected 3, got 3.5\nlikely cause: why$"):
        expect(expected + np.array([[0.1, 0], [0.5, 0.2]]), expected, "y", "why")
    with pytest.raises(CheckFailed, match=r"^y\[0, 1\]: expected 2, got nan"):
        expect(np.array([[1.0, np.nan], [3.0, 5.0]]), expected, "y", "")
    with pytest.raises(CheckFailed, match=r"y: expected shape \(2, 2\), got \(2,\)"):
        expect(expected[0], expected, "y", "")
    with pytest.raises(CheckFailed):
        expect(np.nextafter(expected, 9), expected, "y", "", 0.0)


def test_expect_accepts_equal_nans_and_infinities():
    odd = np.array([np.nan, np.inf, -np.inf, 0.0])
    expect(odd, odd.copy(), "y", "")
    expect(np.zeros((0, 3)), np.zeros((0, 3)), "y", "")
    with pytest.raises(CheckFailed):
        expect(np.array([np.inf]), np.array([-np.inf]), "y", "")
    with pytest.raises(CheckFailed, match="expected 0, got 1e-20"):
        expect(np.full(3, 1e-20), np.zeros(3), "y", "")
