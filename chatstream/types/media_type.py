"""The bytes of an image, a recording or a document → their media type; a path → the bytes of the file.

Rules:
- The first bytes decide, never the name of a file.
- Nothing is guessed: bytes of an unknown type raise `ConfigError`, unless the caller names the type.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from typing import Any

from ..errors import ConfigError

# The first bytes of each type, "." for any byte; https://mimesniff.spec.whatwg.org/ and the formats' own documents.
_FIRST_BYTES = [
    (media_type, re.compile(pattern, re.DOTALL))
    for media_type, pattern in [
        ("image/png", rb"\x89PNG\r\n\x1a\n"),
        ("image/jpeg", rb"\xff\xd8\xff"),
        ("image/gif", rb"GIF8[79]a"),
        ("image/webp", rb"RIFF.{4}WEBP"),
        ("image/bmp", rb"BM.{4}\0{4}"),
        ("image/tiff", rb"II\*\0|MM\0\*"),
        ("image/avif", rb".{4}ftypavi[fs]"),
        ("image/heic", rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)"),
        ("audio/wav", rb"(?:RIFF|RF64).{4}WAVE"),
        ("audio/mpeg", rb"ID3|\xff[\xe2-\xe5\xea-\xed\xf2-\xf5\xfa-\xfd]"),  # a frame of layer 2 or 3
        ("audio/aac", rb"\xff[\xf0\xf1\xf8\xf9]"),
        ("audio/ogg", rb"OggS"),
        ("audio/flac", rb"fLaC"),
        ("audio/mp4", rb".{4}ftyp(?:M4[AB]\x20|mp4[12]|isom|iso[2-6]|dash)"),
        ("audio/webm", rb"\x1aE\xdf\xa3"),
        ("application/pdf", rb"(?:\xef\xbb\xbf)?\s*%PDF-"),
    ]
]


def media_type_of(data: bytes) -> str | None:
    """The media type of ``data`` by its first bytes, ``text/plain`` for UTF-8 without controls; None if unknown."""
    for media_type, pattern in _FIRST_BYTES:
        if pattern.match(data):
            return media_type
    try:
        is_text = b"\0" not in data and data.decode().strip() != ""
    except UnicodeDecodeError:
        return None
    return "text/plain" if is_text else None


def checked_bytes(data: Any, media_type: str | None, kind: str, name: str = "the data") -> tuple[bytes, str]:
    """``data`` as bytes and its media type, which begins with ``kind``, such as ``image/``.

    Raises `ConfigError` with the ``name`` of the data if it is not bytes, is empty, or is of a wrong or unknown type.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ConfigError(f"from_bytes needs bytes, not {type(data).__name__}")
    data = bytes(data)
    if not data:
        raise ConfigError(f"{name} is empty")
    found = media_type_of(data) if media_type is None else media_type
    if found is None:
        raise ConfigError(
            f'the type of {name} can\'t be detected from its first bytes: pass media_type="{kind or "…/"}…"'
        )
    if not isinstance(found, str) or not re.fullmatch(rf"{kind or '[a-z]+/'}[^\s/;,]+", found):
        wanted = f"a media type that begins with {kind}" if kind else "a media type such as application/pdf"
        raise ConfigError(f"{name} is of the type {found!r:.60}, but needs {wanted}")
    return data, found


def base64_of(data: bytes) -> str:
    """``data`` in base64, in one line."""
    return b2a_base64(data, newline=False).decode()


def data_url(data: bytes, media_type: str) -> str:
    """``data`` as a ``data:`` URL."""
    return f"data:{media_type};base64,{base64_of(data)}"


def read_file(path: Any) -> tuple[bytes, str]:
    """The bytes of a file, and its name without the folders. Raises `ConfigError` if it can't be read."""
    text = path.__fspath__() if hasattr(path, "__fspath__") else path
    if not isinstance(text, str):
        raise ConfigError(f"from_file needs a path, not {type(path).__name__}: use from_bytes(data) for bytes")
    try:
        with open(text, "rb") as file:
            return file.read(), re.split(r"[/\\]", text)[-1]
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        is_url = "://" in text or text.startswith("data:")
        hint = ": for a URL, call the class itself, as in InputImage(url)" if is_url else ""
        raise ConfigError(f"{text[:200]} can't be read ({getattr(error, 'strerror', None) or error}){hint}") from error
