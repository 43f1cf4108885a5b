"""A training loop of PyTorch with minet's GaussianPool follows the one with a form written by hand."""

import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[torch]'")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import minet.torch  # noqa: E402


class ByHand(nn.Module):
    """Gaussian pooling, 3x3, stride 2, pad 1, as one writes it: a depthwise convolution with made weights."""

    def __init__(self, like):
        super().__init__()
        self.mean = nn.Parameter(like.mean.detach().clone())
        self.log_sigma = nn.Parameter(like.log_sigma.detach().clone())

    def forward(self, x):
        C, J, _ = self.mean.shape
        taps = torch.arange(3) - 1.0
        down, right = (
            torch.exp(-0.5 * ((taps - self.mean[..., i, None]) / self.log_sigma[..., i, None].exp()) ** 2)
            for i in (0, 1)
        )
        w = (down[..., :, None] * right[..., None, :]).reshape(C * J, 1, 3, 3)
        inside = F.conv2d(torch.ones_like(x), w, None, 2, 1, groups=C)
        y = F.conv2d(x, w, None, 2, 1, groups=C) / inside
        return y.unflatten(1, (C, J)).transpose(1, 2).flatten(1, 2)  # kernel by kernel


class Block(nn.Module):
    """A residual block as in torchvision."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.bn1 = (
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.conv2, self.bn2 = (
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


def small_net(pools):
    first, second = pools
    stem = [nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), first]
    return nn.Sequential(
        *stem, Block(12), nn.Conv2d(12, 8, 1), second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)
    )


def images(count):
    """Bars in one of three directions, and noise."""
    draw = torch.Generator().manual_seed(2)
    labels = torch.randint(3, (count,), generator=draw)
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    waves = [torch.cos(at * 2 * math.pi / 4) for at in (rows, columns, rows + columns)]
    clean = torch.stack([waves[label] for label in labels])[:, None]
    return clean + 0.5 * torch.randn(count, 1, 12, 12, generator=draw), labels


@pytest.mark.slow
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_losses_follow_the_form_written_by_hand(memory_format):
    torch.manual_seed(4)
    pools = [
        minet.torch.GaussianPool(3, stride=2, pad=1, kernels=2, in_shape=shape)
        for shape in ((6, 12, 12), (8, 6, 6))
    ]
    ours = small_net(pools).to(memory_format=memory_format)
    theirs = small_net([ByHand(pool) for pool in pools])
    theirs.load_state_dict(ours.state_dict())
    x, labels = images(96)
    losses = []
    for net in (ours, theirs):
        solver = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        losses.append([])
        for step in range(24):
            part = slice(step % 3 * 32, step % 3 * 32 + 32)
            loss = F.cross_entropy(net(x[part].contiguous(memory_format=memory_format)), labels[part])
            solver.zero_grad()
            loss.backward()
            solver.step()
            losses[-1].append(loss.item())
    ours_first, theirs_first = (torch.tensor(each) for each in losses)
    assert torch.allclose(ours_first, theirs_first, rtol=0.02, atol=2e-3)
    assert ours_first[-1] < 0.3 * ours_first[0]
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0.02, atol=5e-3)


def test_a_net_on_images_computes_the_same_in_evaluation():
    pool = minet.torch.GaussianPool(3, stride=2, pad=1, kernels=3, in_shape=(5, 9, 7))
    x = torch.randn(4, 5, 9, 7)
    assert torch.allclose(pool(x), ByHand(pool)(x), rtol=1e-4, atol=1e-6)
