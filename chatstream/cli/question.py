"""Arguments, files, images and stdin → the message of the user; ``-o``, ``--schema`` → the fields of the request.

Rules:
- The message is one text where it can be, because every server takes that: attached files stand in it by name.
- A field that is not JSON is a string, unless it begins like JSON.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from .._runtime.imports import imports
from ..client import PLACES
from ..errors import ConfigError
from ..types.items import Message
from .files import read_text
from .terminal import read_stdin, stdin_is_piped

NO_QUESTION = "no question: pass one as an argument, or pipe text into stdin"


def user_message(options: argparse.Namespace) -> Message:
    """The message that the arguments describe. Raises `ConfigError` if it is empty, or a file can't be used."""
    arguments = options.question
    piped = read_stdin() if "-" in arguments or stdin_is_piped() else ""
    question = " ".join(piped if argument == "-" else argument for argument in arguments).strip()
    added = [] if "-" in arguments else [piped.strip()]
    return message_of(question, options, added)


def message_of(question: str, options: argparse.Namespace, added: list[str] | None = None) -> Message:
    """The message with a question, the texts in ``added``, and the files and images of the options."""
    texts = [question, *(added or ()), *map(_attached, options.file)]
    text = "\n\n".join(filter(None, texts))
    images = [_image(each) for each in options.image]
    if not text and not images:
        raise ConfigError(NO_QUESTION)
    return Message("user", [*([text] if text else []), *images])


def request_fields(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of the request beside the messages. Raises `ConfigError`."""
    named = {"max_tokens": options.max_tokens, "temperature": options.temperature}
    fields = {name: value for name, value in named.items() if value is not None}
    if options.schema:
        with imports():
            from .schema import response_format_of
        fields["response_format"] = response_format_of(options.schema)
    for each in options.option:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise ConfigError("-o needs KEY=JSON, such as -o seed=1")
        if name in PLACES.call_options:
            raise ConfigError(f"-o {name}=… is not a request field: it may be an option of its own (see --help)")
        fields[name] = _json(name, value)
    PLACES.check_fields(fields)
    return fields


def _json(name: str, value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        if value.lstrip()[:1] in ("{", "[", '"'):
            raise ConfigError(f"-o {name}=… is not JSON: {error}") from None
        return value


def _attached(path: str) -> str:
    """A file as a fenced block under its name. Its fence is longer than any in the text."""
    text = read_text(path, "; use -i to attach an image")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{Path(path).name}:\n{fence}\n{text.strip(chr(10))}\n{fence}"


def _image(source: str) -> Any:
    with imports():
        from ..types.media import InputImage
    if re.match(r"data:|\w+://", source):
        return InputImage(source)
    return InputImage.from_file(source)
