"""Texts as they should be: strict JSON, no half of a surrogate pair, one line of a log.

A character outside the basic plane may be cut into two surrogates by a server that escapes them one by one. Half of one
can't be written as UTF-8, so none is handed to a caller, and none is sent.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

SURROGATE = re.compile("[\ud800-\udfff]")
HIGH_SURROGATE = re.compile(r"[\ud800-\udbff]\Z")


def printable(text: str) -> str:
    """The text in one line, for a log: a backslash escape in place of each character that `str.isprintable` refuses.

    These are line ends, all other controls, and the invisible marks that format or reorder text.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def strict_json(text: str) -> Any:
    """The value of the JSON in ``text``. Raises ValueError for what RFC 8259 excludes, such as ``NaN``."""
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def clean_json(text: str) -> Any:
    """The value of the JSON in ``text``, without lone surrogates. Raises ValueError as `strict_json`."""
    value = strict_json(text)
    if "\\u" not in text and not has_surrogates(text):
        return value
    try:
        return all_without_surrogates(value)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def arguments_are_whole(arguments: str) -> bool:
    """Whether the arguments of a call are complete, strict JSON; blanks alone stand for ``{}``."""
    try:
        strict_json(arguments.strip() or "{}")
    except ValueError:
        return False
    return True


def has_surrogates(text: str) -> bool:
    """Whether a text holds a surrogate, which a whole text never does."""
    return not text.isascii() and SURROGATE.search(text) is not None


def has_lone_surrogates(text: str) -> bool:
    """Whether a text holds half of a character; two halves side by side are one."""
    try:
        text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return True
    return False


def without_surrogates(text: str) -> str:
    """The text with pairs joined into their character, and each lone surrogate replaced by U+FFFD."""
    if not has_surrogates(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def all_without_surrogates(value: Any) -> Any:
    """A JSON value with `without_surrogates` applied to every text in it, keys included. Raises RecursionError."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, list):
        return [all_without_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {without_surrogates(key): all_without_surrogates(each) for key, each in value.items()}
    return value
