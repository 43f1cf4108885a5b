"""Trained: a run's model with its weights, for what comes after training."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minet.backends import Backend
from minet.core.errors import MinetError
from minet.core.net import Net
from minet.runs import folders
from minet.train import checkpoint, modelfile, versions
from minet.train.callbacks import WEIGHTS
from minet.train.modelfile import Model
from minet.train.pixels import Pixels


@dataclass(frozen=True)
class Trained:
    """A checkpoint, what it says of itself, and its model, with the settings of the run.

    Attributes
    ----------
    file : Path
    facts : dict
    model : Model
    """

    file: Path
    facts: dict[str, Any]
    model: Model

    @classmethod
    def of(cls, run: str | Path, model: str | Path | None = None) -> Trained:
        """The checkpoint of a run.

        Parameters
        ----------
        run : str or Path
            As for `minet.runs.folders.find`, or a file of weights.
        model : str or Path, optional
            The model file, if it is not where it was in training, or has changed.

        Raises
        ------
        MinetError
            If there is no such run, if it has no checkpoint yet, if its model file is missing or has changed.
        """
        given = Path(run)  # weights by themselves, as `minet import` writes them, or a run
        alone = given.suffix == ".safetensors" and os.path.isfile(given)
        file = given if alone else folders.find(run) / WEIGHTS
        if not file.is_file():
            raise MinetError(f"{file}: no such file: the run has no checkpoint yet")
        _, facts = checkpoint.read(file)
        path = model_file(file, facts) if model is None else model
        return cls(file, facts, modelfile.load(path, **facts.get("settings", {})))

    def net(self, batch: int, backend: str | Backend = "cpu") -> Net:
        """A net with the checkpoint's weights."""
        net = Net(self.model.net(), self.model.input_shape, batch, self.model.loss, backend)
        checkpoint.load(self.file, net)
        return net

    def pixels(self) -> tuple[Pixels, str]:
        """How images become input, and where that was found if not in the checkpoint.

        Checkpoints of earlier versions do not have it. For those the model's training set is loaded.
        """
        kept = Pixels.from_facts(self.file, self.facts, self.model.input_shape[0])
        if kept is not None:
            return kept, ""
        train, _ = self.model.datasets()
        note = f"{self.file} does not hold mean and scale: they are those of {train.name} now"
        return Pixels.of(train), note


def model_file(file: Path, facts: dict[str, Any]) -> Path:
    """A checkpoint's model file; a checkpoint may come from anywhere, so it must be as it was in training."""
    if not {"file", "text"} <= facts.keys():
        raise MinetError(f"{file}: does not say of which model file it is", "name it with --model")
    path = modelfile.find(facts["file"])
    if not path.is_file():
        raise MinetError(f"{path}: no such file, the model of {file}", "name it with --model")
    if found := versions.changed(path, facts):
        raise MinetError(f"{found[0]}: has changed since {file}", f"--model {path} takes it as it is now")
    return path
