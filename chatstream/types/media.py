"""The parts of a message that are not text: images, audio and files, from URLs, from files or from bytes.

Rules:
- A string that is neither a URL nor base64, such as a file name, raises a `ConfigError` that says what to use.
- A file is read when the part is created, never while a request is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._dataclass import frozen
from .._runtime.imports import imports
from ..errors import ConfigError
from .tagged import check_text, require_key, required, tagged

if TYPE_CHECKING:
    from os import PathLike

_URL = re.compile(r"data:|[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # not C:\, which is a path
_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]+={0,2}\s*")
_FORMATS = {"mpeg": "mp3", "mp4": "m4a", "wave": "wav", "vnd.wave": "wav"}  # where the subtype is not the format


@frozen
class InputImage:
    """An image for the model.

    ``image_url`` is a URL, or the image itself as a ``data:`` URL; see `from_file` and `from_bytes`. ``detail`` is
    ``low``, ``high`` or ``auto``.
    """

    image_url: str
    detail: str | None = None

    def __post_init__(self) -> None:
        check_text(self, "image_url")
        check_text(self, "detail", or_none=True)
        if not _URL.match(self.image_url):
            raise ConfigError(_no_url("InputImage.image_url", self.image_url, "a URL nor a data: URL"))

    @classmethod
    def from_file(
        cls, path: str | PathLike[str], *, media_type: str | None = None, detail: str | None = None
    ) -> InputImage:
        """The image in a file: PNG, JPEG, GIF, WebP, BMP, TIFF, HEIC or AVIF, or of the given ``media_type``.

        Raises `ConfigError` if the file can't be read, is empty, or is not recognized as an image.
        """
        with imports():
            from .media_type import checked_bytes, data_url, read_file
        data, name = read_file(path)
        return cls(data_url(*checked_bytes(data, media_type, "image/", name)), detail)

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str | None = None, *, detail: str | None = None) -> InputImage:
        """The image in ``data``; see `from_file`."""
        with imports():
            from .media_type import checked_bytes, data_url
        return cls(data_url(*checked_bytes(data, media_type, "image/")), detail)

    def to_dict(self) -> dict[str, Any]:
        """The part as a dict with a ``type`` key, ready for JSON."""
        return tagged("input_image", image_url=self.image_url, detail=self.detail)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputImage:
        """The part from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        (image_url,) = required("input_image", data, "image_url")
        return cls(image_url, data.get("detail"))


@frozen
class InputAudio:
    """Audio for the model: ``data`` in base64, ``format`` such as ``wav`` or ``mp3``; see `from_file` and `from_bytes`.

    Some servers accept a URL or a ``data:`` URL as ``data``.
    """

    data: str
    format: str

    def __post_init__(self) -> None:
        check_text(self, "data", "format")
        if not (_URL.match(self.data) or _BASE64.fullmatch(self.data)):
            raise ConfigError(_no_url("InputAudio.data", self.data, "base64 nor a URL"))

    @classmethod
    def from_file(cls, path: str | PathLike[str], *, media_type: str | None = None) -> InputAudio:
        """The audio in a file: WAV, MP3, Ogg, FLAC, M4A, AAC or WebM, or of the given ``media_type``.

        Raises `ConfigError` if the file can't be read, is empty, or is not recognized as audio.
        """
        with imports():
            from .media_type import read_file
        data, name = read_file(path)
        return cls._of(data, media_type, name)

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str | None = None) -> InputAudio:
        """The audio in ``data``; see `from_file`."""
        return cls._of(data, media_type, "the data")

    @classmethod
    def _of(cls, data: bytes, media_type: str | None, name: str) -> InputAudio:
        with imports():
            from .media_type import base64_of, checked_bytes
        data, found = checked_bytes(data, media_type, "audio/", name)
        subtype = found.partition("/")[2].lower().removeprefix("x-")
        return cls(base64_of(data), _FORMATS.get(subtype, subtype))

    def to_dict(self) -> dict[str, Any]:
        """The part as a dict with a ``type`` key, ready for JSON."""
        return tagged("input_audio", input_audio={"data": self.data, "format": self.format})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputAudio:
        """The part from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        (audio,) = required("input_audio", data, "input_audio")
        return cls(require_key(audio, "data"), require_key(audio, "format"))


@frozen
class InputFile:
    """A file for the model: its content as a ``data:`` URL in ``file_data``, or the ``file_id`` of an uploaded file.

    See `from_file` and `from_bytes`. Some servers accept a URL or plain base64 as ``file_data``, and some also require
    a ``filename``.
    """

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None

    def __post_init__(self) -> None:
        check_text(self, "file_data", "file_id", "filename", or_none=True)
        if self.file_data is None and self.file_id is None:
            raise ConfigError("an InputFile needs file_data or file_id")
        if self.file_data is not None and not (_URL.match(self.file_data) or _BASE64.fullmatch(self.file_data)):
            raise ConfigError(_no_url("InputFile.file_data", self.file_data, "a data: URL nor base64"))

    @classmethod
    def from_file(
        cls, path: str | PathLike[str], *, media_type: str | None = None, filename: str | None = None
    ) -> InputFile:
        """The file at ``path``: a PDF, UTF-8 text, or of the given ``media_type``; under its own name.

        Raises `ConfigError` if the file can't be read, is empty, or is of a type that is not recognized.
        """
        with imports():
            from .media_type import checked_bytes, data_url, read_file
        data, name = read_file(path)
        return cls(data_url(*checked_bytes(data, media_type, "", name)), None, filename or name)

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str | None = None, *, filename: str | None = None) -> InputFile:
        """The file whose content is ``data``; see `from_file`."""
        with imports():
            from .media_type import checked_bytes, data_url
        return cls(data_url(*checked_bytes(data, media_type, "")), None, filename)

    def to_dict(self) -> dict[str, Any]:
        """The part as a dict with a ``type`` key, ready for JSON."""
        return tagged("input_file", file_data=self.file_data, file_id=self.file_id, filename=self.filename)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputFile:
        """The part from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        required("input_file", data)
        return cls(data.get("file_data"), data.get("file_id"), data.get("filename"))


def _no_url(name: str, text: str, wanted: str) -> str:
    owner = name.partition(".")[0]
    shown = repr(text) if len(text) <= 60 else f"{text[:60]!r}…"
    return f"{name} is {shown}, which is neither {wanted}: use {owner}.from_file(path) or {owner}.from_bytes(data)"
