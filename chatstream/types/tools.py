"""A tool that the model may call: its name, its description, and the JSON schema of its arguments.

    function ──from_function─▶ Tool
    FunctionCall ──call─▶ result of the function

Rules:
- What reads signatures and types is imported on first use, because a tool written by hand needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from types import NoneType
from typing import Any, Union

from .._dataclass import frozen
from .._runtime.imports import imports
from ..errors import ConfigError
from .items import FunctionCall


@frozen
class Tool:
    """A function that the model may call.

    ``parameters`` is the JSON schema of its arguments, whose type is ``object``. ``strict`` asks the server to make
    the model follow this schema; not every server can. ``function`` is the Python function that
    `call` runs; in a tool written by hand, its ``**arguments`` and its parameters without annotation receive the values
    of JSON unchanged.
    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    function: Callable[..., Any] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigError(f"Tool.name must be a str that is not blank, not {self.name!r}")
        if not isinstance(self.description, (str, NoneType)):
            raise ConfigError(
                f"the description of the tool {self.name} must be a str or None, not {self.description!r:.60}"
            )
        if not isinstance(self.parameters, (dict, NoneType)):
            raise ConfigError(
                f"the parameters of the tool {self.name} must be a dict (a JSON schema), not {self.parameters!r:.60}"
            )

    @classmethod
    def from_function(cls, function: Callable[..., Any], *, strict: bool | None = None) -> Tool:
        """Create the tool for a function, from its name, its annotations and its docstring.

        - ``function``: a function, a bound method, a `functools.partial`, or an object with ``__call__``.
        - Annotations: ``str``, ``int``, ``float``, ``bool``, ``None``, ``Any``, ``list[…]``, ``tuple[…]``,
          ``dict[str, …]``, ``Literal``, an ``Enum`` (by its values), a date or time, ``UUID``, ``Decimal``, ``Path``,
          a dataclass, a TypedDict, a NamedTuple, a pydantic model, or a union of these.
        - Descriptions: of the tool, the first paragraph of the docstring; of a parameter, ``Annotated[…, "text"]``,
          pydantic's ``Field(description="text")``, or the ``Args:`` section or ``:param x:`` lines of the docstring.
        - ``strict``: every parameter is required, as OpenAI demands.

        Raises `ConfigError` for other annotations, for a parameter that has none or can't be passed by keyword, and for
        an ``async`` function.
        """
        with imports():
            from .functions import describe
        name, description, parameters = describe(function, strict=bool(strict))
        return cls(name, description, parameters, strict, function)

    def call(self, call: FunctionCall) -> Any:
        """Call the function with the arguments of ``call``, as values of its declared types, and return its result.

        Raises `InvalidArguments`, and calls nothing, if the arguments are cut off, are not JSON, or do not match the
        parameters; an exception raised by the function propagates. Raises `ConfigError` if the tool has no
        function, or if ``call`` is not a `FunctionCall` of it.
        """
        if not isinstance(call, FunctionCall):
            raise ConfigError(f"Tool.call takes a FunctionCall, such as those in turn.function_calls, not {call!r:.80}")
        if self.function is None:
            raise ConfigError(f"the tool {self.name} has no function to call: use Tool.from_function(function)")
        if call.name != self.name:
            raise ConfigError(f"this is a call of {call.name}, not of {self.name}: look up the tool by call.name")
        with imports():
            from .functions import run
        return run(self.function, call)


AnyTool = Union[Tool, Mapping[str, Any], Callable[..., Any]]
