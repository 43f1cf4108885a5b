"""`minet.torch`'s card in host memory, and tensors that lie in memory in every way."""

import numpy as np
import torch

from minet import backends
from minet.backends.gpu import GPU
from minet.torch import card

FORMS = {
    "nchw": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "chwn": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "part of a larger one": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
}


class OnHost(card.Card):
    """A card in host memory, with the emulator's kernels."""

    def __init__(self):
        GPU.__init__(self, "float32")
        self.device, self.emulator = torch.device("cpu"), backends.get("emu")
        self.recipe, self.load = self.emulator.recipe, self.emulator.load

    def tensor(self, array):
        return torch.from_numpy(np.asarray(array))

    def start(self, module, kernel, grid, block, args, arrays, shared=0):
        plain = [np.asarray(array) for array in arrays]
        self.emulator.start(module, kernel, grid, block, args, plain, shared)
