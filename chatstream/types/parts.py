"""The parts of a message: text, images, audio, files and refusals, each with a tagged form for storage.

    ContentPart = InputText | InputImage | InputAudio | InputFile | OutputText | OutputImage | Refusal | Other

Rules:
- The tagged form is a dict with a ``type``, such as ``{"type": "input_text", "text": "Hi"}``, in the names of OpenAI's
  Responses API. ``from_dict(part.to_dict())`` equals ``part``.
- An item or part of an unknown type becomes `Other` and keeps its dict unchanged.
- A value of a wrong type raises `ConfigError` when the part is made, before a server could refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

from .._dataclass import frozen
from ..errors import ConfigError


def tagged(type: str, **values: Any) -> dict[str, Any]:
    """The tagged form with this ``type`` and all ``values`` but those that are None."""
    return {"type": type, **{name: plain(value) for name, value in values.items() if value is not None}}


def plain(value: Any) -> Any:
    """A copy of ``value`` in which lists and mappings are those of JSON, and what has a tagged form is in that form."""
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def require_key(data: Mapping[str, Any], key: str) -> Any:
    """``data[key]``. Raises `ConfigError` if ``data`` is not a mapping or has no such key."""
    if not isinstance(data, Mapping) or key not in data:
        raise ConfigError(f'expected a dict with the key "{key}", not {data!r:.80}')
    return data[key]


def check_text(value: object, *names: str, or_none: bool = False) -> None:
    """Raise `ConfigError` if one of these attributes of ``value`` is not a str (or None, if ``or_none``)."""
    wanted = "a str or None" if or_none else "a str"
    for name in names:
        text = getattr(value, name)
        if not isinstance(text, str) and not (or_none and text is None):
            raise ConfigError(f"{type(value).__name__}.{name} must be {wanted}, not {type(text).__name__}")


def check_dict(value: object, name: str) -> None:
    """Raise `ConfigError` if this attribute of ``value`` is not a dict."""
    if not isinstance(getattr(value, name), dict):
        raise ConfigError(f"{type(value).__name__}.{name} must be a dict, not {type(getattr(value, name)).__name__}")


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class InputText:
    """Text for the model."""

    text: str

    def __post_init__(self) -> None:
        check_text(self, "text")

    def to_dict(self) -> dict[str, Any]:
        """This part in its tagged form."""
        return tagged("input_text", text=self.text)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputText:
        """The part with the tagged form ``data``. Raises `ConfigError` if a key is missing."""
        return cls(require_key(data, "text"))


@frozen
class InputImage:
    """An image for the model.

    ``image_url`` is a URL, or the image itself as a ``data:`` URL. ``detail`` is ``low``, ``high`` or ``auto``.
    """

    image_url: str
    detail: str | None = None

    def __post_init__(self) -> None:
        check_text(self, "image_url")
        check_text(self, "detail", or_none=True)

    def to_dict(self) -> dict[str, Any]:
        """This part in its tagged form."""
        return tagged("input_image", image_url=self.image_url, detail=self.detail)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputImage:
        """The part with the tagged form ``data``. Raises `ConfigError` if a key is missing."""
        return cls(require_key(data, "image_url"), data.get("detail"))


@frozen
class InputAudio:
    """Audio for the model: ``data`` in base64, ``format`` such as ``wav`` or ``mp3``."""

    data: str
    format: str

    def __post_init__(self) -> None:
        check_text(self, "data", "format")

    def to_dict(self) -> dict[str, Any]:
        """This part in its tagged form."""
        return tagged("input_audio", input_audio={"data": self.data, "format": self.format})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputAudio:
        """The part with the tagged form ``data``. Raises `ConfigError` if a key is missing."""
        audio = require_key(data, "input_audio")
        return cls(require_key(audio, "data"), require_key(audio, "format"))


@frozen
class InputFile:
    """A file for the model: its content as a ``data:`` URL in ``file_data``, or the ``file_id`` of an uploaded file."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None

    def __post_init__(self) -> None:
        check_text(self, "file_data", "file_id", "filename", or_none=True)
        if self.file_data is None and self.file_id is None:
            raise ConfigError("an InputFile needs file_data or file_id")

    def to_dict(self) -> dict[str, Any]:
        """This part in its tagged form."""
        return tagged("input_file", file_data=self.file_data, file_id=self.file_id, filename=self.filename)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputFile:
        """The part with the tagged form ``data``. Raises `ConfigError` if a key is missing."""
        return cls(data.get("file_data"), data.get("file_id"), data.get("filename"))


@frozen
class OutputText:
    """Text from the model."""

    text: str

    def __post_init__(self) -> None:
        check_text(self, "text")

    def to_dict(self) -> dict[str, Any]:
        """This part in its tagged form."""
        return tagged("output_text", text=self.text)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OutputText:
        """The part with the tagged form ``data``. Raises `ConfigError` if a key is missing."""
        return cls(require_key(data, "text"))


@frozen
class OutputImage:
    """An image from the model: ``image_url`` is a URL or a ``data:`` URL."""

    image_url: str

    def __post_init__(self) -> None:
        check_text(self, "image_url")

    def to_dict(self) -> dict[str, Any]:
        """This part in its tagged form."""
        return tagged("output_image", image_url=self.image_url)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OutputImage:
        """The part with the tagged form ``data``. Raises `ConfigError` if a key is missing."""
        return cls(require_key(data, "image_url"))


@frozen
class Refusal:
    """The text of a refusal: the model declines to answer."""

    refusal: str

    def __post_init__(self) -> None:
        check_text(self, "refusal")

    def to_dict(self) -> dict[str, Any]:
        """This part in its tagged form."""
        return tagged("refusal", refusal=self.refusal)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Refusal:
        """The part with the tagged form ``data``. Raises `ConfigError` if a key is missing."""
        return cls(require_key(data, "refusal"))


@frozen
class Other:
    """An item or a part of an unknown type. ``raw`` is its dict, unchanged, and has a ``type``."""

    raw: dict[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.raw, dict) or not isinstance(self.raw.get("type"), str):
            raise ConfigError(f'Other.raw must be a dict whose "type" is a str, not {self.raw!r:.80}')

    def to_dict(self) -> dict[str, Any]:
        """This part in its tagged form."""
        return {key: plain(value) for key, value in self.raw.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Other:
        """The part with the tagged form ``data``. Raises `ConfigError` if a key is missing."""
        return cls(dict(data))


ContentPart = Union[InputText, InputImage, InputAudio, InputFile, OutputText, OutputImage, Refusal, Other]
Content = Union[str, Sequence[Union[ContentPart, str, Mapping[str, Any]]]]

_PARTS: dict[str, Callable[[Mapping[str, Any]], ContentPart]] = {
    "input_text": InputText.from_dict,
    "input_image": InputImage.from_dict,
    "input_audio": InputAudio.from_dict,
    "input_file": InputFile.from_dict,
    "output_text": OutputText.from_dict,
    "output_image": OutputImage.from_dict,
    "refusal": Refusal.from_dict,
}


def part_from_dict(data: Mapping[str, Any]) -> ContentPart:
    """The part with the tagged form ``data``; an `Other` if its type is unknown.

    Raises `ConfigError` if a key is missing or a value has a wrong type.
    """
    return _PARTS.get(str(require_key(data, "type")), Other.from_dict)(data)


def as_parts(content: Content, text_type: type[InputText] | type[OutputText]) -> tuple[ContentPart, ...]:
    """``content`` as parts, each str in it as a ``text_type``. Raises `ConfigError` for any other type."""
    if isinstance(content, str):
        return (text_type(content),)
    if not isinstance(content, (list, tuple)):
        raise ConfigError(f"content must be a str or a list of parts, not {type(content).__name__}")
    return tuple(_as_part(part, text_type) for part in content)


def _as_part(part: ContentPart | str | Mapping[str, Any], text_type: type[InputText] | type[OutputText]) -> ContentPart:
    if isinstance(part, (InputText, InputImage, InputAudio, InputFile, OutputText, OutputImage, Refusal, Other)):
        return part
    return text_type(part) if isinstance(part, str) else part_from_dict(part)


def text_of(part: ContentPart) -> str:
    """The text of ``part``; empty for a refusal and for anything that is not text."""
    match part:
        case InputText(text) | OutputText(text) | Other({"type": "text", "text": str(text)}):
            return text
    return ""
