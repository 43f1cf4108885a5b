"""The solvers, one file each, and the protocol of a solver of your own."""

from minet.train.optim.adam import Adam, AdamW
from minet.train.optim.sgd import SGD
from minet.train.optim.solver import Solver

__all__ = ["SGD", "Adam", "AdamW", "Solver"]
