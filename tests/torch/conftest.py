"""Devices of `minet.torch`: a card, and one in host memory, whose kernels are the emulator's."""

import shutil

import pytest


@pytest.fixture(params=[pytest.param("host", marks=()), pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """The device whose tensors are on a card."""
    import torch
    from on_host import OnHost

    from minet.torch import card, layout, spec

    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("torch.cuda.is_available() is False")
        return "cuda"
    if not shutil.which("g++"):
        pytest.skip("the emulator compiles kernels with g++, which is not on PATH")
    double = OnHost()
    monkeypatch.setattr(spec.Spec, "_backend", lambda self, device, dtype: double)
    monkeypatch.setattr(layout, "native", card.native)
    return "cpu"


@pytest.fixture
def be(device):
    import torch
    from on_host import OnHost

    from minet.torch import card

    return card.card(torch.device("cuda", 0)) if device == "cuda" else OnHost()
