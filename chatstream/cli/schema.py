"""``--schema FILE`` or ``module:Type`` → the request field ``response_format``, and the check of the answer.

Rules:
- For a schema in a file, the answer only has to be JSON. For ``module:Type`` it has to match the type, too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import ChatStreamError, ConfigError
from ..types.structured import response_format
from ..types.turn import Turn
from .files import imported, read_text


def response_format_of(given: str) -> dict[str, Any]:
    """The field for a type, for a file with a JSON schema or with the field itself. Raises `ConfigError`."""
    if not _is_file(given):
        return response_format(imported(given))
    try:
        schema = json.loads(read_text(given))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{given} is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise ConfigError(f"{given} is not a JSON schema: an object is expected")
    if schema.get("type") in ("json_schema", "json_object"):
        return schema
    name = "".join(each if each.isalnum() and each.isascii() else "_" for each in Path(given).stem)[:64]
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def check_answer(turn: Turn, given: str) -> None:
    """Raise `ChatStreamError` if the text of ``turn`` is not JSON, or does not match the type that ``given`` names."""
    try:
        turn.parsed(None if _is_file(given) else imported(given))
    except ValueError as error:
        raise ChatStreamError(f"the answer does not match {given}: {error}") from None


def _is_file(given: str) -> bool:
    return os.path.exists(given) or ":" not in given
