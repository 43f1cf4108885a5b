"""The settings that a model file's function takes: its parameters, and how to speak of what it returned."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in inspect.signature(function).parameters.items() if p.kind in kinds}


def choices_of(function: Callable[..., Any], name: str) -> tuple[Any, ...]:
    """The values that a parameter's annotation allows, if it is a Literal."""
    try:
        annotation = typing.get_type_hints(function).get(name)
    except Exception:  # an annotation that cannot be evaluated restricts nothing
        return ()
    return typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()


def kind_of(value: Any) -> str:
    return "nothing (None)" if value is None else f"{value!r:.80} of type {type(value).__name__}"


def hint_for(value: Any, line: str) -> str:
    return "is the return statement missing?" if value is None else line
