"""The settings that a model file's function takes: its parameters, and how to speak of what it returned."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

from minet.core.naming import did_you_mean


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


def typed(name: str, value: Any, function: Callable[..., Any], error: Callable[[str, str], Exception]) -> Any:
    """A setting as a function takes it, judged by its default value and its annotation.

    Parameters
    ----------
    error : callable
        What makes an exception of a message and a hint.
    """
    default, choices = parameters(function)[name].default, choices_of(function, name)
    if choices:
        if value not in choices:
            hint = did_you_mean(str(value), [str(choice) for choice in choices])
            raise error(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}", hint)
        return value
    kind = type(default)
    if default is None or type(value) is kind:
        return value
    if (kind, type(value)) in ((float, int), (tuple, list)):
        return kind(value)
    word = value.lower() if isinstance(value, str) else ""
    if kind is float and word.lstrip("+-") in ("inf", "infinity", "nan"):
        raise error(f"{name} must be a finite number, like {default!r}, got {value}", "")
    raise error(
        f"{name} must be of type {kind.__name__}, like {default!r}, got {kind_of(value)}",
        f"write {word.capitalize()}" if kind is bool and word in ("true", "false") else "",
    )
