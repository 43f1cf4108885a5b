"""A trainer that takes a blink, and ways to stop and to time it."""

from __future__ import annotations

from pathlib import Path

from minet import Net
from minet.train import modelfile
from minet.train.callback import Callback
from minet.train.trainer import Trainer

TOY = Path(__file__).with_name("toy.py")


def trainer(*callbacks, epochs=3, seed=0, batch=32, late=False, folder=None, file=TOY, **settings):
    """A trainer of the toy model; `late` has losses come as from a card, after the next step's start."""
    model = modelfile.load(file, epochs=epochs, batch=batch, **settings)
    net = Net(model.net(), model.input_shape, model.batch, model.loss, seed=seed)
    if late:
        start = net.start_step
        net.start_step = lambda *args: Late(start(*args))
    return Trainer(net, model.solver(), *model.datasets(), epochs, callbacks, folder)


class Late:
    """A step that seems to run until its loss is asked for."""

    running = True

    def __init__(self, step):
        self.loss = step.loss


class Clock:
    """Seconds that a test sets."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Interrupted(Callback):
    """The user interrupts the run after so many of its steps."""

    def __init__(self, step):
        self.step = step

    def on_batch(self, trainer, loss):
        if trainer.steps == self.step:
            trainer.interrupt()


def everything(trainer):
    """All arrays of a net and its solver, in bytes."""
    net, solver = trainer.net, trainer.solver
    arrays = {**net.params, **net.persistent, **solver.state(net)}
    return {name: value.tobytes() for name, value in arrays.items()}
