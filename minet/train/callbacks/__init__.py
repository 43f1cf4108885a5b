"""Callbacks of a training run: those that every run has, and those that a model file may add.

A run started by ``minet train`` has `Progress`, `JsonLog`, `KernelLog`, `Best`, `Checkpointer` and `Curves`.
A model file adds more by ``callbacks = [EarlyStopping()]``, or by a function with settings of its own.
"""

from minet.train.callback import Callback
from minet.train.callbacks.best import Best
from minet.train.callbacks.checkpointer import Checkpointer
from minet.train.callbacks.curves import Curves
from minet.train.callbacks.early_stopping import EarlyStopping
from minet.train.callbacks.ema import EMA
from minet.train.callbacks.learning_rate_log import LearningRateLog
from minet.train.callbacks.logs import JsonLog, KernelLog
from minet.train.callbacks.progress import SETTLED, WIDTH, Progress, compile_listener
from minet.train.callbacks.sigma_schedule import SigmaSchedule
from minet.train.callbacks.statistics import Statistics
from minet.train.callbacks.tensorboard import TensorBoard
from minet.train.callbacks.time_limit import TimeLimit
from minet.train.run_files import CURVES, KERNEL_LOG, KERNELS, LOG, WEIGHTS

__all__ = [
    "CURVES",
    "EMA",
    "KERNELS",
    "KERNEL_LOG",
    "LOG",
    "SETTLED",
    "WEIGHTS",
    "WIDTH",
    "Best",
    "Callback",
    "Checkpointer",
    "Curves",
    "EarlyStopping",
    "JsonLog",
    "KernelLog",
    "LearningRateLog",
    "Progress",
    "SigmaSchedule",
    "Statistics",
    "TensorBoard",
    "TimeLimit",
    "compile_listener",
]
