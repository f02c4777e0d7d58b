"""A callable → its name, its documentation and its parameters with their types.

Rules:
- Functions, bound methods, `functools.partial`, and objects with ``__call__`` are read alike. Parameters that a partial
  fixes are left out.
- Every parameter has an annotation and can be given by keyword; what is not so raises `ConfigError`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Annotated, Any, get_type_hints

from .._dataclass import frozen
from ..errors import ConfigError
from .hints import with_none

_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@frozen
class Parameter:
    """A parameter that the model gives.

    ``default`` makes its value if it is not given; None if the function does so itself.
    """

    name: str
    hint: Any
    required: bool
    default: Callable[[], Any] | None = None


def name_of(function: Any) -> str:
    """The name of a function, or the name of the class of an object with ``__call__``.

    Raises `ConfigError` for what can't be a tool: classes, lambdas, coroutines, and what can't be called.
    """
    wrong = isinstance(function, type) or not callable(function)
    name = None if wrong else _name(function)
    if not name or not name.isidentifier():
        raise ConfigError(f"Tool.from_function needs a named function, not a lambda or a class: {function!r:.200}")
    if any(map(_is_async, (function, getattr(type(function), "__call__", None)))):  # noqa: B004
        raise ConfigError(f"{name} is async, but tools are called synchronously: pass a function that is not async")
    return name


def _name(function: Any) -> str:
    if not hasattr(function, "__name__") and isinstance(function, partial):
        return _name(function.func)
    return str(getattr(function, "__name__", type(function).__name__))


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def doc_of(function: Any) -> str:
    """The dedented docstring of a function; of an object, that of its ``__call__``, or of its class."""
    if isinstance(function, partial) and "__doc__" not in vars(function):
        return doc_of(function.func)
    own = None if _is_plain(function) else type(function).__call__.__doc__  # getdoc would find that of `type`
    return inspect.cleandoc(own or inspect.getdoc(function) or "")


def _is_plain(function: Any) -> bool:
    """Whether ``function`` describes itself: a routine, or an object that stands for one, such as that of lru_cache."""
    return inspect.isroutine(function) or hasattr(function, "__wrapped__") or isinstance(function, partial)


def fixed_names(function: Any) -> set[str]:
    """The names of the parameters that a partial fixes."""
    if not isinstance(function, partial):
        return set()
    bound = [each.name for each in _signature(function.func) if each.kind in _BY_POSITION][: len(function.args)]
    return {*bound, *function.keywords, *fixed_names(function.func)}


def takes_any_name(function: Any) -> bool:
    """Whether ``function`` has a parameter such as ``**arguments``."""
    return any(each.kind is inspect.Parameter.VAR_KEYWORD for each in _signature(function))


def parameters_of(function: Any, name: str, *, by_hand: bool = False) -> list[Parameter]:
    """The parameters of ``function``. Raises `ConfigError` if one has no annotation or can't be passed by keyword.

    If its schema was written ``by_hand``, one without annotation takes any value, and ``**arguments`` are left out.
    """
    try:
        signature = _signature(function)
        hints = _hints(function, {each.name for each in signature})
    except Exception as error:  # evaluating annotations can raise anything
        raise ConfigError(f"the signature of {name} can't be read: {error}") from error
    if by_hand:
        signature = [each for each in signature if each.kind is not inspect.Parameter.VAR_KEYWORD]
    for each in signature:
        where = f"parameter {each.name} of {name}"
        if each.kind not in _BY_KEYWORD:
            raise ConfigError(f"{where} can't be passed by keyword: change the signature, or create the Tool by hand")
        if each.name not in hints and not by_hand:
            raise ConfigError(f"{where} has no annotation: add one, such as str")
    return [_parameter(each, hints.get(each.name, Any)) for each in signature]


def _signature(function: Any) -> list[inspect.Parameter]:
    if not isinstance(function, partial):
        return list(inspect.signature(function).parameters.values())
    fixed = fixed_names(function)
    return [each for each in _signature(function.func) if each.name not in fixed]


def _hints(function: Any, names: set[str]) -> dict[str, Any]:
    """The types of these parameters. That of the result, or of what a partial fixes, may be known to a checker only."""
    while isinstance(function, partial):
        function = function.func
    described = function if _is_plain(function) else type(function).__call__
    own = {name: hint for name, hint in getattr(described, "__annotations__", {}).items() if name in names}
    return get_type_hints(SimpleNamespace(__annotations__=own, __wrapped__=described), include_extras=True)


def _parameter(parameter: inspect.Parameter, hint: Any) -> Parameter:
    default = parameter.default
    is_field = hasattr(default, "is_required")  # a Field() of pydantic, which holds the default in it
    if (default.default if is_field else default) is None:
        hint = with_none(hint)
    if not is_field:
        return Parameter(parameter.name, hint, default is parameter.empty)
    required = default.is_required()
    make = None if required else partial(default.get_default, call_default_factory=True)
    return Parameter(parameter.name, Annotated[hint, default], required, make)
