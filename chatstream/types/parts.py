"""The parts of a message: text, images, audio, files and refusals, each with a dict form for storage.

    ContentPart = InputText | InputImage | InputAudio | InputFile | OutputText | OutputImage | Refusal | Other

Rules:
- The dict form has a ``type``, such as ``{"type": "input_text", "text": "Hi"}``, in the names of OpenAI's
  Responses API. ``from_dict(part.to_dict())`` equals ``part``.
- An item or part of an unknown type becomes `Other` and keeps its dict unchanged.
- A value of a wrong type raises `ConfigError` when the part is created, before a server could reject it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

from .._dataclass import frozen
from ..errors import ConfigError
from .media import InputAudio, InputFile, InputImage
from .tagged import check_text, plain, require_key, required, tagged


@frozen
class InputText:
    """Text for the model."""

    text: str

    def __post_init__(self) -> None:
        check_text(self, "text")

    def to_dict(self) -> dict[str, Any]:
        """The part as a dict with a ``type`` key, ready for JSON."""
        return tagged("input_text", text=self.text)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputText:
        """The part from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return cls(*required("input_text", data, "text"))


@frozen
class OutputText:
    """Text from the model."""

    text: str

    def __post_init__(self) -> None:
        check_text(self, "text")

    def to_dict(self) -> dict[str, Any]:
        """The part as a dict with a ``type`` key, ready for JSON."""
        return tagged("output_text", text=self.text)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OutputText:
        """The part from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return cls(*required("output_text", data, "text"))


@frozen
class OutputImage:
    """An image from the model: ``image_url`` is a URL or a ``data:`` URL."""

    image_url: str

    def __post_init__(self) -> None:
        check_text(self, "image_url")

    def to_dict(self) -> dict[str, Any]:
        """The part as a dict with a ``type`` key, ready for JSON."""
        return tagged("output_image", image_url=self.image_url)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OutputImage:
        """The part from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return cls(*required("output_image", data, "image_url"))


@frozen
class Refusal:
    """The text of a refusal: the model declines to answer."""

    refusal: str

    def __post_init__(self) -> None:
        check_text(self, "refusal")

    def to_dict(self) -> dict[str, Any]:
        """The part as a dict with a ``type`` key, ready for JSON."""
        return tagged("refusal", refusal=self.refusal)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Refusal:
        """The part from its dict. Raises `ConfigError` for another type, a missing key or a wrong value."""
        return cls(*required("refusal", data, "refusal"))


@frozen
class Other:
    """An item or a part of an unknown type. ``raw`` is its dict, unchanged, and has a ``type``."""

    raw: dict[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.raw, dict) or not isinstance(self.raw.get("type"), str):
            raise ConfigError(f'Other.raw must be a dict whose "type" is a str, not {self.raw!r:.80}')

    def to_dict(self) -> dict[str, Any]:
        """The part as a dict with a ``type`` key, ready for JSON."""
        return {key: plain(value) for key, value in self.raw.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Other:
        """The part from its dict. Raises `ConfigError` for a missing type or a wrong value."""
        return cls(dict(data) if isinstance(data, Mapping) else data)


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
    """The part from its dict; an `Other` if the type is unknown.

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


def as_output(output: Content) -> str | tuple[ContentPart, ...]:
    """The ``output`` of a call: a str as it is, or parts. Raises `ConfigError` for any other type."""
    if isinstance(output, str):
        return output
    if not isinstance(output, (list, tuple)):
        kind = type(output).__name__
        raise ConfigError(f"output must be a str or a list of parts, not {kind}: call.output(value) turns it into JSON")
    return as_parts(output, InputText)


def _as_part(part: ContentPart | str | Mapping[str, Any], text_type: type[InputText] | type[OutputText]) -> ContentPart:
    if isinstance(part, (InputText, InputImage, InputAudio, InputFile, OutputText, OutputImage, Refusal, Other)):
        return part
    if isinstance(part, (bytes, bytearray)) or hasattr(part, "__fspath__"):
        raise ConfigError(
            f"a part of a message can't be {part!r:.80}: use InputImage.from_file(path) or "
            "InputImage.from_bytes(data), or those of InputAudio or InputFile"
        )
    return text_type(part) if isinstance(part, str) else part_from_dict(part)


def text_of(part: ContentPart) -> str:
    """The text of ``part``; empty for a refusal and for anything that is not text."""
    match part:
        case InputText(text) | OutputText(text) | Other({"type": "text", "text": str(text)}):
            return text
    return ""
