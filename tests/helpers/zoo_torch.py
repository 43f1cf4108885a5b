"""A zoo of torch modules, Functions and ops: right ones, and broken ones that each break one promise.

`breaks` names the check that must catch it first, `says` what the report says of it.
Try ``minet check tests/helpers/zoo_torch.py:TwiceTooLarge``.
"""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.nn import functional as F

SHAPE = (3, 5, 4)


class Specimen:
    """A module or Function for the kit to judge."""

    breaks = ""
    says = ""

    @classmethod
    def examples(cls):
        yield (lambda: cls.apply) if issubclass(cls, torch.autograd.Function) else cls, SHAPE


# -- right ------------------------------------------------------------------------------------------


class Swish(Specimen, torch.autograd.Function):
    """``y = x * sigmoid(x)``."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return dy * s * (1 + x * (1 - s))


class Scale(Specimen, nn.Module):
    """``y = a * tanh(x)``, one `a` for each channel."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.rand(3, 1, 1) + 0.5)

    def forward(self, x):
        return self.a * torch.tanh(x)


class Block(Specimen, nn.Module):
    """Parts of PyTorch's own: buffers, random numbers, a parameter whose gradient is 0 in training."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.drop(F.gelu(self.norm(self.conv(x)))).mean((2, 3)))


@torch.library.custom_op("minet_zoo::cube", mutates_args=())
def cube(x: torch.Tensor) -> torch.Tensor:
    return x**3


@cube.register_fake
def _(x):
    return torch.empty_like(x)


cube.register_autograd(
    lambda ctx, dy: 3 * ctx.saved_tensors[0] ** 2 * dy,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


class Half(Specimen, nn.Module):
    """It computes in float32 alone, so its slopes are differences in float32; it has a kink."""

    def forward(self, x):
        return F.relu(x.float() ** 2 - 0.04)


class ScaledByItsNorm(Scale):
    """Float32 on the way, and float64 again in what it gives."""

    def forward(self, x):
        size = x.float().square().mean(1, keepdim=True) + 1e-6
        return super().forward(x * size.rsqrt().to(x.dtype))


class Centred(Scale):
    """A running mean of which each batch makes another tensor."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))

    def forward(self, x):
        y = super().forward(x - self.mean)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 2, 3))[:, None, None]
        return y


class FollowsAnother(Scale):
    """A parameter without a gradient, which follows one that has some."""

    def __init__(self):
        super().__init__()
        self.slow = nn.Parameter(self.a.detach().clone(), requires_grad=False)

    def forward(self, x):
        y = super().forward(x), self.slow.clone() * x
        if self.training:
            self.slow.lerp_(self.a.detach(), 0.1)
        return y


class OnItsDevice(Scale):
    def forward(self, x):
        device = torch.device("cuda") if x.is_cuda else torch.device("cpu")
        return super().forward(x) + torch.arange(4, device=device)


class Pair(Specimen, nn.Module):
    """Two inputs and two outputs, one of them of whole numbers."""

    def forward(self, x, scale):
        y = x * scale[:, :, None, None]
        return {"y": y, "where": y.argmax(1)}

    @classmethod
    def examples(cls):
        yield cls, SHAPE, (3,)


def examples():
    yield lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), SHAPE
    yield lambda: nn.BatchNorm2d(3), SHAPE
    yield nn.GELU, SHAPE
    yield lambda: cube, SHAPE


# -- broken -----------------------------------------------------------------------------------------


class TwiceTooLarge(Specimen, torch.autograd.Function):
    breaks, says = "gradient", "2 times the expected values everywhere: added twice?"

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        return 4 * ctx.saved_tensors[0] * dy


class StraightThrough(Specimen, torch.autograd.Function):
    breaks, says = "gradient", "forward is flat (round, sign, argmax)"

    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, dy):
        return dy.clone()


class WrongAtTheEdge(Scale):
    """The gradient of one column is off, by a little."""

    breaks, says = "gradient", "backward is not the derivative of forward"

    def forward(self, x):
        y = super().forward(x)
        return torch.cat([y[..., :-1], y[..., -1:].detach() * 0.1 + y[..., -1:] * 0.9], -1)


class InPlace(Scale):
    breaks, says = "untouched", "it writes to its input"

    def forward(self, x):
        return super().forward(x.mul_(2))


class ScalesGradOutput(Swish):
    breaks, says = "untouched", "backward writes to what it may only read"

    @staticmethod
    def backward(ctx, dy):
        return dy.mul_(Swish.backward(ctx, torch.ones_like(dy)))


class Unwritten(Specimen, nn.Module):
    """A mask that leaves out what is exactly at the border."""

    breaks, says = "written", "y[0, 0, 0, 3] was not written"

    def forward(self, x):
        y = torch.empty_like(x)
        y[..., :-1] = x[..., :-1]
        return y


class UnwrittenGradient(Swish):
    breaks, says = "written", "x.grad[2, 0, 0, 0] was not written"

    @staticmethod
    def backward(ctx, dy):
        dx = torch.empty_like(dy)
        dx[:-1] = Swish.backward(ctx, dy)[:-1]
        return dx


class NoInitialValue(Scale):
    breaks, says = "written", "a has no initial value"

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.empty(3, 1, 1))


class TakesMemoryAsContiguous(Specimen, torch.autograd.Function):
    breaks, says = "strides", "it takes memory as contiguous"

    @staticmethod
    def forward(ctx, x):
        rows = torch.as_strided(x.detach(), (x.numel(),), (1,), x.storage_offset())
        return (2 * rows).view(x.shape)

    @staticmethod
    def backward(ctx, dy):
        return 2 * dy


class NeedsView(Specimen, nn.Module):
    breaks, says = "strides", "RuntimeError at "

    def forward(self, x):
        return torch.sin(x).flatten(1) + x.view(len(x), -1)


class ExpandedGradOutput(Specimen, torch.autograd.Function):
    breaks, says = "expanded", "backward takes grad_output as contiguous"

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, dy):
        if 0 in dy.stride():
            return torch.zeros_like(dy)
        return 2 * dy


class StartsAtTheStorage(Specimen, torch.autograd.Function):
    breaks, says = "slices", "with x a slice of a larger tensor"

    @staticmethod
    def forward(ctx, x):
        return 2 * torch.as_strided(x.detach(), x.shape, x.stride(), 0)

    @staticmethod
    def backward(ctx, dy):
        return 2 * dy


class MixesSamples(Scale):
    breaks, says = "samples", "sample 0 alone: y["

    def forward(self, x):
        return super().forward(x - x.mean(0))


class OneBatchSize(Scale):
    breaks, says = "batch_sizes", "RuntimeError at "

    def forward(self, x):
        return super().forward(x).reshape(3, 3, 20)


class KeepsWhatFitsOneBatch(Scale):
    breaks, says = "batch_sizes", "at N = 1 after N = 3, y: expected shape (1, 3, 5, 4), got (3, 3, 5, 4)"

    mask = None

    def forward(self, x):
        if self.mask is None:
            self.mask = torch.full_like(x, 0.5)
        return super().forward(x) * self.mask


class MeanOutsideOfState(Scale):
    """A running mean that is a plain tensor."""

    breaks, says = "registered", "self.mean is a tensor that is not registered"

    def __init__(self):
        super().__init__()
        self.mean = torch.zeros(3, 1, 1)

    def forward(self, x):
        mean = self.mean.to(x)
        if self.training:
            now = x.mean((0, 2, 3))[:, None, None]
            self.mean = 0.9 * mean + 0.1 * now.detach()
            return super().forward(x - now)
        return super().forward(x - mean)


class NumberOutsideOfState(Scale):
    breaks, says = "saving", "something that it computes with is no parameter and no buffer"

    def __init__(self):
        super().__init__()
        self.shift = float(torch.rand(()))

    def forward(self, x):
        return super().forward(x) + self.shift


class MeanNotPersistent(Centred):
    breaks, says = "saving", "is no parameter and no buffer, or not persistent"

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1), persistent=False)


class PlainList(Specimen, nn.Module):
    breaks, says = "registered", "self.parts[0] is a module that is not registered"

    def __init__(self):
        super().__init__()
        self.parts = [nn.Tanh(), nn.ReLU()]

    def forward(self, x):
        return self.parts[1](self.parts[0](x))


class Unseeded(Scale):
    breaks, says = "determinism", "random numbers that torch.manual_seed does not set"

    def forward(self, x):
        return super().forward(x) * (1 + random.random() if self.training else 1)


class UnseededWhenMade(Scale):
    breaks, says = "determinism", "two objects differ in a"

    def __init__(self):
        super().__init__()
        self.a.data *= 1 + random.random()


class AlwaysDrops(Scale):
    breaks, says = "evaluation", "it draws in evaluation: F.dropout(x, p, self.training)"

    def forward(self, x):
        return F.dropout(super().forward(x), 0.5)


class NeverComesBack(Scale):
    breaks, says = "evaluation", "train() does not undo eval()"
    frozen = False

    def train(self, mode=True):
        self.frozen = self.frozen or not mode
        return super().train(mode and not self.frozen)

    def forward(self, x):
        return super().forward(x) * (2 if self.training else 1)


class WrongInEvaluation(Scale):
    breaks, says = "gradient_eval", "0.5 times the expected values everywhere: halved"

    def forward(self, x):
        y = super().forward(x)
        return y if self.training else (y + y.detach()) / 2


class CountsInEvaluation(Scale):
    breaks, says = "evaluation", "buffers are updated in evaluation too"

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen += len(x)
        return super().forward(x)


class ReadsWhatWasChanged(Specimen, torch.autograd.Function):
    """It keeps y by itself, so autograd does not notice that somebody writes to it."""

    breaks, says = "saved", "ctx.y = y: keep it by ctx.save_for_backward(y)"

    @staticmethod
    def forward(ctx, x):
        ctx.y = torch.exp(x)
        return ctx.y

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.y


class ChangesWhatItKept(Swish):
    breaks, says = "backward_twice", "backward changes what it has kept"

    @staticmethod
    def forward(ctx, x):
        ctx.slope = Swish.forward(ctx, x) * 0 + 2
        return 2 * x

    @staticmethod
    def backward(ctx, dy):
        ctx.slope *= dy
        return ctx.slope


class KeepsOnSelf(Specimen, nn.Module):
    breaks, says = "used_twice", "the last call overwrites it"

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, module):
            ctx.module, module.x = module, x.clone()
            return x * x

        @staticmethod
        def backward(ctx, dy):
            return 2 * ctx.module.x * dy, None

    def forward(self, x):
        return self.Square.apply(x, self)


class MissingGradient(Scale):
    breaks, says = "gradient", "a.grad is None, but y depends on it"

    def forward(self, x):
        return self.a.detach() * torch.tanh(x)


class GradientInAnothersPlace(Specimen, nn.Module):
    """Where x needs no gradient, the weight's is left out too."""

    breaks, says = "needs_grad", "ctx.needs_input_grad is not heeded"

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, a):
            ctx.save_for_backward(x, a)
            return x * a

        @staticmethod
        def backward(ctx, dy):
            x, a = ctx.saved_tensors
            if not ctx.needs_input_grad[0]:
                return None, None
            return dy * a, (dy * x).sum((0, 2, 3))[:, None, None]

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.rand(3, 1, 1) + 0.5)

    def forward(self, x):
        return self.Product.apply(x, self.a)


class LosesDigits(Scale):
    breaks, says = "float32", "loses digits in float32"

    def forward(self, x):
        y = super().forward(x)
        return y + ((y.detach() + 1e4) - 1e4 - y.detach())


class SharesWithItsCopy(Scale):
    breaks, says = "deepcopy", "the copy shares its parameters"

    def __deepcopy__(self, memo):
        other = SharesWithItsCopy()
        other.a = self.a
        return other


class LosesWhenPickled(Scale):
    breaks, says = "pickled", "__getstate__ or a hook leaves something out"

    def __deepcopy__(self, memo):
        other = LosesWhenPickled()
        other.load_state_dict(self.state_dict())
        return other

    def __getstate__(self):
        return {**vars(self), "_parameters": {"a": nn.Parameter(torch.ones(3, 1, 1))}}


class ReturnsNothing(Scale):
    breaks, says = "runs", "it returned None, not a tensor"

    def forward(self, x):
        super().forward(x)


class OtherPartsEachTime(Specimen, nn.Module):
    breaks, says = "runs", "of two objects, one alone has parts.0"

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({str(random.random()).replace(".", "_"): nn.PReLU()})

    def forward(self, x):
        return next(part(x) for part in self.parts.values())


class MadeOnTheCpu(Scale):
    breaks, says = "cuda", "two devices"

    def forward(self, x):
        return super().forward(x) * torch.tensor([1.0, 2.0, 3.0, 4.0])


class DoesNotRun(Scale):
    breaks, says = "runs", "RuntimeError at "

    def forward(self, x):
        return super().forward(x) @ torch.ones(7, 7)


@torch.library.custom_op("minet_zoo::no_fake", mutates_args=())
def no_fake(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@torch.library.custom_op("minet_zoo::square", mutates_args=())
def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


@square.register_fake
def _(x):
    return torch.empty_like(x)


square.register_autograd(
    lambda ctx, dy: -2 * ctx.saved_tensors[0] * dy,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)
