"""The kit for torch code: right modules pass every check, and of each broken one it names the first cause."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")

import zoo_torch as zoo  # noqa: E402

from minet.core.errors import MinetError  # noqa: E402
from minet.torch.check import CHECKS, check_module, module_checks, outcome  # noqa: E402
from minet.torch.kit.rig import Case, threads  # noqa: E402

SPECIMENS = [
    value
    for value in vars(zoo).values()
    if isinstance(value, type) and issubclass(value, zoo.Specimen) and value is not zoo.Specimen
]
RIGHT = [cls for cls in SPECIMENS if not cls.breaks]
BROKEN = [cls for cls in SPECIMENS if cls.breaks]
OF_MODULES = {"evaluation", "gradient_eval", "samples", "registered", "saving", "deepcopy", "pickled"}


def first_failure(make, *inputs):
    """The outcome of the first check that fails; those after it do not run."""
    with threads(1):
        for name, function in CHECKS.items():
            found = outcome(name, function, Case(make, inputs))
            if found.status == "FAIL":
                return found
    return None


@pytest.mark.parametrize("cls", RIGHT)
def test_right_code_passes_every_check(cls):
    for make, *inputs in cls.examples():
        report = check_module(make, *inputs)
        assert report.ok, str(report)
        skipped = {check.name for check in report.checks if check.status == "SKIP"} - {"cuda", "opcheck"}
        assert skipped <= {"float32"} if issubclass(cls, torch.nn.Module) else skipped == OF_MODULES


@pytest.mark.parametrize("example", list(zoo.examples()), ids=["Conv2d", "BatchNorm2d", "GELU", "cube"])
def test_pytorchs_own_modules_and_a_custom_op_pass(example):
    make, *inputs = example
    report = check_module(make, *inputs)
    assert report.ok, str(report)
    if make() is zoo.cube:
        assert {check.name: check.status for check in report.checks}["opcheck"] == "PASS"


@pytest.mark.sweep(8)
@pytest.mark.parametrize("cls", BROKEN)
def test_each_fault_is_found_and_named_by_the_first_check_that_fails(cls):
    ((make, *inputs),) = cls.examples()
    found = first_failure(make, *inputs)
    assert found is not None and found.name == cls.breaks, found
    assert cls.says in found.detail, found.detail
    assert "likely cause: " in found.detail or "the contract: " in found.detail
    own = f"{cls.__name__}." in found.place or f"{cls.__mro__[1].__name__}." in found.place
    assert "zoo_torch.py:" in found.place + found.detail and (own or not found.place), found.place


def test_there_is_a_fault_for_every_check():
    assert {cls.breaks for cls in BROKEN} >= CHECKS.keys() - {"opcheck"}


def test_a_wrong_backward_is_found_at_the_line_that_its_author_wrote():
    found = first_failure(lambda: zoo.TwiceTooLarge.apply, zoo.SHAPE)
    assert found.detail.startswith("x.grad[") and "expected " in found.detail
    assert found.place.endswith(", TwiceTooLarge.backward")
    wrong = first_failure(lambda: zoo.square, zoo.SHAPE)
    assert wrong.name == "gradient"
    assert wrong.detail.endswith("-1 times the expected values everywhere: a wrong sign?")


def test_slopes_of_what_computes_in_float32_alone_are_differences_of_float32():
    report = check_module(zoo.Half, zoo.SHAPE)
    (gradient,) = [check for check in report.checks if check.name == "gradient"]
    assert gradient.status == "PASS" and gradient.detail.startswith("in float32, to 0.005 of scale")

    class Wrong(zoo.Half):
        def forward(self, x):
            y = super().forward(x)
            return y.detach() * 0.05 + y * 0.95

    assert first_failure(Wrong, zoo.SHAPE).name == "gradient"


def test_an_op_without_a_fake_implementation_fails_pytorchs_own_check():
    found = first_failure(lambda: zoo.no_fake, zoo.SHAPE)
    assert found.name == "opcheck" and "op.register_fake is missing" in found.detail
    assert found.place.endswith(", no_fake")


def test_an_op_that_writes_to_its_inputs_is_refused_with_what_to_check_instead():
    @torch.library.custom_op("minet_zoo::fill", mutates_args={"x"})
    def fill(x: torch.Tensor) -> None:
        x.fill_(1)

    with pytest.raises(MinetError, match="minet_zoo::fill writes to its inputs"):
        check_module(lambda: fill, (3,))


def test_without_a_card_the_report_says_that_none_was_compared():
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    found = outcome("cuda", CHECKS["cuda"], Case(zoo.Scale, (zoo.SHAPE,)))
    assert (found.status, found.detail) == ("SKIP", "no CUDA device: torch.cuda.is_available() is False")


def test_what_cannot_be_pickled_is_skipped_with_the_reason():
    class Local(zoo.Scale):
        pass

    found = outcome("pickled", CHECKS["pickled"], Case(Local, (zoo.SHAPE,)))
    assert found.status == "SKIP" and found.detail.startswith("it cannot be pickled: Can't ")


def test_what_does_not_run_is_all_that_a_report_says():
    report = check_module(zoo.DoesNotRun, zoo.SHAPE)
    assert [check.name for check in report.failed] == ["runs"]
    assert all(check.detail == "it does not run" for check in report.checks[1:])


def test_a_tensor_is_passed_as_it_is():
    report = check_module(lambda: torch.nn.Embedding(9, 4), torch.tensor([[1, 2], [0, 8]]))
    assert report.ok and "on a tensor, batch 3" in report.title
    report = check_module(lambda: torch.nn.functional.linear, (5,), torch.rand(4, 5))
    assert report.ok, str(report)
    assert "on (5,), a tensor, batch 3" in report.title


def test_of_tensors_alone_no_number_of_rows_is_the_batch():
    for rows in (2, 3, 5):
        report = check_module(lambda: torch.nn.Embedding(9, 4), torch.arange(2 * rows).reshape(rows, 2) % 9)
        assert report.ok, str(report)
    report = check_module(lambda: lambda x, w: (w * x.sum(), x), (3, 4), torch.rand(3, 4))
    assert report.ok, str(report)


def test_a_mask_of_truth_values_passes():
    mask, value = torch.arange(15).reshape(3, 5) % 2 == 0, torch.tensor(0.5)
    report = check_module(lambda: torch.masked_fill, (5,), mask, value)
    assert report.ok, str(report)


def test_padding_has_no_gradient_on_purpose():
    index = torch.tensor([[0, 1, 5], [2, 0, 4]])
    report = check_module(lambda: torch.nn.Embedding(6, 4, padding_idx=0), index)
    assert report.ok, str(report)


def test_what_compares_samples_has_none_alone():
    report = check_module(lambda: torch.nn.Sequential(torch.nn.Linear(4, 4), Gram()), (4,))
    assert report.ok, str(report)
    assert "SKIP  samples         an output compares samples: its shape is (7, 7) at N = 7" in report.full()


class Gram(torch.nn.Module):
    def forward(self, x):
        return x @ x.T


def test_an_error_in_a_call_is_no_line_of_the_kit():
    found = first_failure(lambda: torch.nn.Bilinear(3, 3, 2), (3,))
    assert found.detail.startswith("TypeError: Bilinear.forward() missing 1 required positional argument")


def test_lazy_modules_pass():
    report = check_module(lambda: torch.nn.Sequential(torch.nn.LazyConv2d(4, 3), torch.nn.Tanh()), zoo.SHAPE)
    assert report.ok, str(report)


class Steps(zoo.Scale):
    """So many kinks that a difference crosses one at most elements, in float64 too."""

    slope = 1.0

    def forward(self, x):
        at = torch.linspace(-1, 1, 200_001, dtype=x.dtype)
        y = torch.relu(super().forward(x).flatten(1)[..., None] - at).mean(-1)
        return y.detach() * (1 - self.slope) + y * self.slope


def test_kinks_are_no_mistakes_and_hide_none():
    assert outcome("gradient", CHECKS["gradient"], Case(Steps, ((1, 1, 2),), 2)).status == "PASS"

    class Wrong(Steps):
        slope = 0.97

    found = outcome("gradient", CHECKS["gradient"], Case(Wrong, ((1, 1, 2),), 2))
    assert found.status == "FAIL" and "0.97 times the expected values everywhere" in found.detail


def test_losses_and_complex_outputs_pass():
    report = check_module(torch.nn.CrossEntropyLoss, (5,), torch.tensor([0, 4, 2]))
    assert report.ok and "SKIP  batch_sizes     a tensor is passed as it is" in report.full()
    report = check_module(lambda: torch.fft.rfft, (8,))
    assert report.ok and "SKIP  gradient        no output is of floating type" in report.full()


def test_kinks_are_no_mistakes_in_float32_either():
    class Steep(zoo.Specimen, torch.nn.Module):
        def forward(self, x):
            at = torch.linspace(-1, 1, 33)
            return torch.relu((x.float().flatten(1)[..., None] - at) * torch.cos(99 * at)).sum(-1)

    found = outcome("gradient", CHECKS["gradient"], Case(Steep, ((2, 3),)))
    assert found.status == "PASS" and found.detail.startswith("in float32"), found.detail


def test_the_same_object_made_again_is_refused():
    one = zoo.Scale()
    found = first_failure(lambda: one, zoo.SHAPE)
    assert found.name == "runs" and "it returned the same object again" in found.detail


def test_modules_that_write_to_x_on_purpose_pass():
    report = check_module(lambda: torch.nn.ReLU(inplace=True), zoo.SHAPE)
    assert report.ok and "inplace=True: it is meant to write to x" in str(report)


def test_a_warning_of_the_authors_code_is_told_with_its_line():
    class Warns(zoo.Scale):
        def forward(self, x):
            import warnings

            warnings.warn("as if something were odd", stacklevel=1)
            return super().forward(x)

    report = check_module(Warns, zoo.SHAPE)
    assert report.ok and len(report.warnings) == 1
    assert re.match(r"as if something were odd at .*test_kit_zoo\.py:\d+$", report.warnings[0])


def test_a_check_leaves_torchs_settings_as_they_were():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads_before = torch.get_num_threads()
    check_module(zoo.Scale, zoo.SHAPE)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads_before and not torch.are_deterministic_algorithms_enabled()


test_conformance = module_checks(zoo.Scale)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.nn.ReLU(), (3,)), "check_module needs a function that makes a module, got ReLU()"),
        ((zoo.Scale,), "check_module needs the shape of an input"),
        ((zoo.Scale, (3, 0)), "an input must be a shape without the batch, or a tensor, got (3, 0)"),
        ((zoo.Scale, 3), "an input must be a shape without the batch, or a tensor, got 3"),
        ((lambda: 3, (3,)), "make() returned 3, which cannot be called"),
    ],
)
def test_what_cannot_be_checked_is_refused(arguments, message):
    with pytest.raises(MinetError) as error:
        check_module(*arguments)
    assert message in str(error.value)
    with pytest.raises(MinetError, match="batch must be a whole number"):
        check_module(zoo.Scale, zoo.SHAPE, batch=0)


def test_a_gradient_that_is_not_a_number_is_wrong():
    class NotANumber(zoo.Swish):
        @staticmethod
        def backward(ctx, dy):
            dx = zoo.Swish.backward(ctx, dy)
            dx[0, 0, 0, 0] = float("nan")
            return dx

    case = Case(lambda: NotANumber.apply, (zoo.SHAPE,))
    assert outcome("gradient", CHECKS["gradient"], case).status == "FAIL"
    assert "x.grad is not finite" in outcome("written", CHECKS["written"], case).detail
