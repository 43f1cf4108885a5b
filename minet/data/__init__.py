"""Data sets, and batches of them in the layout (C, H, W, N) that nets compute on.

>>> train = digits("train", crop=1)
>>> for x, labels in Batches(train, 64, seed=0).epoch(0):
...     ...  # x is (1, 8, 8, 64) float32, labels is (64,) int64
"""

from minet.data.array_files import arrays, idx, npz
from minet.data.augment import Augmentation, Brightness, Crop, Cutout, Flip, Shift
from minet.data.batches import Batches
from minet.data.dataset import Dataset
from minet.data.errors import DataError
from minet.data.folders import folder
from minet.data.sources import cifar10, digits, mnist

__all__ = [
    "Augmentation", "Batches", "Brightness", "Crop", "Cutout", "DataError", "Dataset", "Flip", "Shift",
    "arrays", "cifar10", "digits", "folder", "idx", "mnist", "npz",
]  # fmt: skip
