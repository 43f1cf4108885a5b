"""Model files: plain Python with an input shape, a net, a solver, data sets, a batch size, epochs and a loss.

It may also have callbacks: a list, or a function that returns one.

The functions' default arguments are the model's settings: ``load("digits", kernels=3)`` passes ``kernels=3``
to every function in ``models/digits.py`` that has a parameter of that name.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from minet.core.containers import Sequential
from minet.core.errors import MinetError
from minet.core.files import FileError, importing_from, raise_with_line, run_file, shipped
from minet.core.layer import Layer, Shape
from minet.core.loss import Loss
from minet.core.naming import did_you_mean, relative
from minet.core.node import LayerError
from minet.data.dataset import Dataset
from minet.train.callback import Callback, check_callbacks
from minet.train.function_settings import hint_for, kind_of, parameters, typed
from minet.train.optim.solver import Solver, lacking
from minet.train.versions import beside, edits, source

PARTS = {  # what a model file must define, each with a line to add if it is missing
    "input_shape": "input_shape = (3, 32, 32)",
    "net": "def net(width=32): return Sequential(...)",
    "solver": "def solver(lr=0.05): return SGD(lr=lr, momentum=0.9)",
    "datasets": 'def datasets(): return data.cifar10("train"), data.cifar10("test")',
    "batch": "batch = 128",
    "epochs": "epochs = 10",
    "loss": "loss = SoftmaxCrossEntropy()",
}
FUNCTIONS = ("net", "solver", "datasets")


class ModelFileError(FileError):
    """A model file that is missing or incomplete, or a setting that it does not have."""


def load(file_or_name: str | Path, /, **settings: Any) -> Model:
    """Run a model file and check what it defines.

    Parameters
    ----------
    file_or_name : str or Path
        A path, or the name of a model that comes with minet: "digits" is ``models/digits.py``.
    **settings
        Values for the functions' parameters, and for ``batch`` and ``epochs``.

    Raises
    ------
    FileError
        If the file does not exist, fails to run, lacks a part, or does not know a setting.
    """
    path = find(file_or_name)
    return Model(path, run_file(path), settings)


def names() -> list[str]:
    """The names of the models that come with minet."""
    return sorted(path.stem for path in shipped("models").glob("*.py"))


def find(file_or_name: str | Path) -> Path:
    """Return the path of a model file that is given as a path or by name."""
    if not isinstance(file_or_name, (str, os.PathLike)):
        raise ModelFileError(f"a model must be given as a path or a name, got {kind_of(file_or_name)}")
    text = os.fspath(file_or_name)
    if text.endswith(".py") or os.path.basename(text) != text or not text:
        return Path(text)
    if text in names():
        return shipped("models") / f"{text}.py"
    file = f"{text}.py" if os.path.isfile(f"{text}.py") else ""
    similar = "" if file else did_you_mean(text, names())
    hint = similar or f"for a file of your own, include the extension: {file or 'path/to/model.py'}"
    raise ModelFileError(f"there is no model {text!r}; the models are: {', '.join(names())}", hint)


def place(path: Path) -> str:
    """A model file as runs know it: by its name if it comes with minet, else by its path."""
    return path.stem if path.parent == shipped("models") else relative(path.resolve())


def is_of(path: Path, facts: dict[str, Any]) -> bool:
    """Whether a run with these facts is of this model file, though it may have been edited since."""
    return facts.get("file", place(path)) == place(path) or not edits(facts.get("text", ""), source(path))


class Model:
    """What a model file defines, with its settings applied.

    Attributes
    ----------
    path : Path
    name : str
        The file's stem.
    text : str
        What the file holds.
    input_shape, batch, epochs, loss
        As in the file; `batch` and `epochs` as overridden by the settings.
    settings : dict
        The settings that were passed.
    known : dict
        All available settings, with the file's own values.
    tag : str
        What the user says of the run, kept with it.
    """

    tag = ""

    def __init__(self, path: Path, module: ModuleType, settings: dict[str, Any]) -> None:
        self.path, self.name, self.text = path, path.stem, source(path)
        missing = [name for name in PARTS if not hasattr(module, name)]
        if missing:
            hint = f"add {'; '.join(PARTS[name] for name in missing)}"
            kinds = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Layer)]
            own = [cls.__name__ for cls in kinds if cls.__module__ == module.__name__]
            if own and "net" in missing:
                hint = f"{own[0]} is a layer; a model that uses it is a file of its own: minet new-model NAME"
            raise self.error(f"lacks {', '.join(missing)}", hint)
        self._functions = {name: self._function(module, name) for name in FUNCTIONS}
        self._callbacks = getattr(module, "callbacks", ())
        if isinstance(self._callbacks, ModuleType):  # the file has imported minet's
            self._callbacks = ()
        if inspect.isfunction(self._callbacks):
            self._functions["callbacks"] = self._function(module, "callbacks")
        self.known: dict[str, Any] = {"batch": module.batch, "epochs": module.epochs}
        for function in self._functions.values():
            for name, parameter in parameters(function).items():
                self.known.setdefault(name, parameter.default)
        self.settings = {name: self._checked(name, value) for name, value in settings.items()}
        self.input_shape = self._shape(module.input_shape)
        self.batch = self._count("batch", self.settings.get("batch", module.batch))
        self.epochs = self._count("epochs", self.settings.get("epochs", module.epochs))
        self.loss = module.loss
        if not isinstance(self.loss, Loss):
            parentheses = isinstance(self.loss, type) and issubclass(self.loss, Loss)
            hint = f"loss = {self.loss.__name__}()" if parentheses else PARTS["loss"]
            raise self.error(f"loss is {kind_of(self.loss)}, not a loss", hint)

    def takers(self, name: str) -> set[str]:
        """The file's functions that have a parameter of this name."""
        return {made for made, function in self._functions.items() if name in parameters(function)}

    def net(self) -> Layer:
        """Build the graph, with new, unbound layers at each call; a list stands for a Sequential."""
        graph = self._call("net", self._sequential)
        if not isinstance(graph, Layer):
            raise self.error(
                f"net() returned {kind_of(graph)}, not a layer", hint_for(graph, "return Sequential(...)")
            )
        return graph

    def _sequential(self, graph: Any) -> Any:
        if not isinstance(graph, list):
            return graph
        # As if it stood where the function begins, which is the line that errors name.
        code = self._functions["net"].__code__
        made = compile("\n" * (code.co_firstlineno - 1) + "Sequential(*graph)", code.co_filename, "eval")
        return eval(made, {"Sequential": Sequential, "graph": graph})

    def solver(self) -> Solver:
        """Build the solver, new at each call."""
        solver: Solver = self._call("solver")
        if lacks := lacking(solver):
            found = f"solver() returned {kind_of(solver)}, not a solver: it has no {', '.join(lacks)}"
            raise self.error(found, hint_for(solver, "return SGD(lr=0.05)"))
        return solver

    def datasets(self) -> tuple[Dataset, Dataset | None]:
        """Load the training set and the test set, which is None if the file has none."""
        got = self._call("datasets")
        pair = [got] if isinstance(got, Dataset) else got
        if isinstance(pair, (tuple, list)) and len(pair) in (1, 2):
            train, test = (*pair, None)[:2]
            if isinstance(train, Dataset) and isinstance(test, Dataset | None):
                return train, test
        raise self.error(
            f"datasets() returned {kind_of(got)}, not one or two Datasets",
            hint_for(got, "return train, test"),
        )

    def callbacks(self) -> list[Callback]:
        """The callbacks of a training run, from a function new at each call; none if the file has none."""
        made = "callbacks" in self._functions
        got = self._call("callbacks") if made else self._callbacks
        if not isinstance(got, (list, tuple)):
            what = f"callbacks{'() returned' if made else ' is'} {kind_of(got)}, not a list of callbacks"
            raise self.error(what, hint_for(got, "callbacks = [EarlyStopping()]"))
        with self.named():
            return check_callbacks(got)

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint says of the model."""
        facts = {"model": self.name, "file": place(self.path), "text": self.text, "settings": self.settings}
        more = {"beside": beside(self.path), "tag": self.tag}
        return facts | {name: value for name, value in more.items() if value}

    def error(self, message: str, hint: str = "") -> ModelFileError:
        """Make an error that starts with this file's name."""
        return ModelFileError(f"{relative(self.path)}: {message}", hint)

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Prefix errors with the file's name, unless they already name a layer and its line."""
        try:
            yield
        except MinetError as error:
            if not (isinstance(error, LayerError) and error.layer):
                error.message = f"{relative(self.path)}: {error.message}"
            raise

    @contextlib.contextmanager
    def blamed(self) -> Iterator[None]:
        """Name file and line of what is raised by the file's own code, or by what it imports beside it."""
        try:
            yield
        except (MinetError, MemoryError, OSError):
            raise
        except Exception as error:
            path = self.path.resolve()
            own = {str(path), *(str(path.parent / name) for name in beside(path))}
            at = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in own]
            if not at:
                raise
            told = f"{relative(at[-1].filename)}:{at[-1].lineno}: {type(error).__name__}: {error}"
            hint = "see the traceback, which minet shows with --debug"
            raise FileError(told.removesuffix(": "), hint) from error

    def _call(self, name: str, finish: Callable[[Any], Any] = lambda result: result) -> Any:
        function = self._functions[name]
        known = parameters(function)
        values = {
            key: typed(key, value, function, self.error)
            for key, value in self.settings.items()
            if key in known
        }
        try:
            with importing_from(self.path.resolve().parent):
                return finish(function(**values))
        except (Exception, SystemExit) as error:
            raise_with_line(self.path, error)

    def _function(self, module: ModuleType, name: str) -> Callable[..., Any]:
        function = getattr(module, name)
        if not inspect.isfunction(function):
            raise self.error(f"{name} is {kind_of(function)}, not a function", PARTS[name])
        for parameter in parameters(function).values():
            if parameter.default is parameter.empty:
                raise self.error(
                    f"{name}() has no default for {parameter.name}", f"def {name}({parameter.name}=...)"
                )
        return function

    def _checked(self, name: str, value: Any) -> Any:
        """Return a setting after checking that its type suits every function that takes it."""
        if name not in self.known:
            listed = ", ".join(f"{key}={default!r}" for key, default in self.known.items())
            raise self.error(
                f"has no setting {name!r}; its settings are: {listed}", did_you_mean(name, list(self.known))
            )
        found = [value] if name in ("batch", "epochs") else []
        takers = (function for function in self._functions.values() if name in parameters(function))
        found += [typed(name, value, function, self.error) for function in takers]
        # If functions expect different types, each gets its own when it is called.
        return found[0] if len({type(one) for one in found}) == 1 else value

    def _count(self, name: str, value: Any) -> int:
        if type(value) is not int or value < 1:
            raise self.error(f"{name} must be a whole number of at least 1, got {value!r}")
        return value

    def _shape(self, shape: Any) -> Shape:
        if not (
            isinstance(shape, tuple) and len(shape) == 3 and all(type(n) is int and n > 0 for n in shape)
        ):
            raise self.error(
                f"input_shape must be (channels, height, width), got {shape!r}", PARTS["input_shape"]
            )
        return shape
