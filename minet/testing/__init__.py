"""The conformance kit: run any layer on plain arrays, and check it against the contract, clause by clause.

`run` computes one fprop and bprop. `check_layer` runs the named checks, `minet.testing.CHECKS`, on a layer.
`layer_checks` turns the same checks into pytest cases:

    from minet.testing import layer_checks
    test_conformance = layer_checks(MyLayer)  # uses MyLayer.examples()

Conformance proves that a layer keeps the contract and that bprop is the derivative of fprop. It does not know
the formula: a layer also needs hand-computed values and an independent oracle.
"""

from minet.testing.losses import check_loss
from minet.testing.report import Check, Report
from minet.testing.runner import CHECKS, check_layer, layer_checks, run_check
from minet.testing.single_pass import Run, run

__all__ = [
    "CHECKS",
    "Check",
    "Report",
    "Run",
    "check_layer",
    "check_loss",
    "layer_checks",
    "run",
    "run_check",
]
