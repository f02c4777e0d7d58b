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


def response_format_of(reference: str) -> dict[str, Any]:
    """The field for a type, for a file with a JSON schema or with the field itself. Raises `ConfigError`."""
    if not _is_file(reference):
        return response_format(imported(reference))
    try:
        schema = json.loads(read_text(reference))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{reference} is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise ConfigError(f"{reference} is not a JSON schema: an object is expected")
    if schema.get("type") in ("json_schema", "json_object"):
        return schema
    name = "".join(each if each.isalnum() and each.isascii() else "_" for each in Path(reference).stem)[:64]
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def check_answer(turn: Turn, reference: str) -> None:
    """Raise `ChatStreamError` if the text of ``turn`` is not JSON, or does not match the type of ``reference``."""
    try:
        turn.parsed(None if _is_file(reference) else imported(reference))
    except ValueError as error:
        raise ChatStreamError(f"the answer does not match {reference}: {error}") from None


def _is_file(reference: str) -> bool:
    return os.path.exists(reference) or ":" not in reference
