"""The solvers, one file each, and the protocol of a solver of your own."""

from minet.train.adam import Adam, AdamW
from minet.train.sgd import SGD
from minet.train.solver import Solver

__all__ = ["SGD", "Adam", "AdamW", "Solver"]
