"""The conformance kit: drive any layer on plain arrays, and hold it to the contract, check by check.

`run` computes one fprop and bprop. `check_layer` puts a layer through the named checks of
`minet.testing.contract` and `minet.testing.parity`. `layer_checks` makes the same checks pytest cases::

    from minet.testing import layer_checks
    test_conformance = layer_checks(MyLayer)  # uses MyLayer.examples()

Conformance proves that a layer keeps the contract and that bprop is the derivative of fprop; it does not
know the formula. Besides it a layer needs hand-computed values and an independent oracle.
"""

from minet.testing.checks import CHECKS, Check, Report, check_layer, layer_checks, run_check
from minet.testing.single_pass import Run, run

__all__ = ["CHECKS", "Check", "Report", "Run", "check_layer", "layer_checks", "run", "run_check"]
