"""Whether what a trainer is given fits together."""

from __future__ import annotations

from typing import Any

from minet.core.errors import MinetError
from minet.core.net import Net
from minet.core.settings import is_whole
from minet.data.checks import check_same_names
from minet.train.evaluation import check_data
from minet.train.optim.solver import lacking


def check_given(net: Any, solver: Any, train: Any, test: Any, epochs: Any, ranks: Any) -> None:
    """Raise MinetError unless a run can be made of these."""
    if not isinstance(net, Net):
        raise MinetError(f"{net!r:.60} is not a net", "Net(layers, input_shape, batch, loss)")
    if net.loss is None:
        raise MinetError("this net has no loss to train with", "Net(..., loss=SoftmaxCrossEntropy())")
    if not is_whole(epochs) or epochs < 1:
        raise MinetError(f"epochs must be a whole number of at least 1, got {epochs!r}")
    if lacks := lacking(solver):
        raise MinetError(f"{solver!r:.60} is not a solver: it has no {', '.join(lacks)}", "SGD(lr=0.05)")
    if ranks is not None and not hasattr(ranks, "micro_batches"):
        raise MinetError(f"ranks={ranks!r:.60} is neither Alone(...) nor Ranks(...)", "ranks=Alone(4)")
    check_data(train, net)
    if test is not None:
        check_data(test, net)
        check_same_names(train, test)
