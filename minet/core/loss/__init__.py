"""Losses, which training makes small, and the count of correct answers."""

from minet.core.loss.base import Loss
from minet.core.loss.binary_cross_entropy import BinaryCrossEntropy
from minet.core.loss.huber import Huber
from minet.core.loss.mean_squared_error import MeanSquaredError
from minet.core.loss.softmax_cross_entropy import SoftmaxCrossEntropy, correct

__all__ = ["BinaryCrossEntropy", "Huber", "Loss", "MeanSquaredError", "SoftmaxCrossEntropy", "correct"]
