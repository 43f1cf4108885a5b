"""kernels/layout.cu: images in PyTorch's layouts to minet's, and back."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[torch]'")

from on_host import FORMS  # noqa: E402

from minet.torch import layout as layouts  # noqa: E402


def test_the_transpositions_are_those_of_the_cpu(be):
    for N, C, H, W in [(1, 1, 1, 1), (3, 2, 5, 7), (33, 70, 6, 11), (65, 3, 9, 8)]:
        x = torch.arange(N * C * H * W, dtype=torch.float32).reshape(N, C, H, W).to(be.device)
        for form in ("nchw", "channels last", "part of a larger one"):
            given = FORMS[form](x)
            out = be.empty((C, H, W, N))
            layouts.lay(be, given, out)
            assert np.array_equal(be.get(out), x.permute(1, 2, 3, 0).cpu().numpy())
            back = layouts.empty(given, (N, C, H, W), layouts.form_of(given))
            layouts.lift(be, out, back.fill_(-1))
            assert torch.equal(back, x)
