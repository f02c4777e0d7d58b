"""The parts that messages are made of: text, images, audio, files, refusals.

    ContentPart = InputText | InputImage | InputAudio | InputFile | OutputText | Refusal | Other

Rules:
- Each has a tagged form, ``{"type": "input_text", …}``; object → ``to_dict()`` → ``from_dict()`` is the same object.
- A type unknown here, of an item or of a part, becomes `Other` and survives as it was.
- A wrong type is a `ConfigError` when the object is made, not a 400 when it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

from .._dataclass import frozen
from ..errors import ConfigError


def tagged(tag: str, **values: Any) -> dict[str, Any]:
    return {"type": tag, **{name: value for name, value in values.items() if value is not None}}


def need(data: Mapping[str, Any], key: str) -> Any:
    if not isinstance(data, Mapping) or key not in data:
        raise ConfigError(f'give a dict that has "{key}", not {data!r:.80}')
    return data[key]


def check_text(thing: object, *names: str, or_none: bool = False) -> None:
    for name in names:
        value = getattr(thing, name)
        if not isinstance(value, str) and not (or_none and value is None):
            raise ConfigError(f"give {type(thing).__name__}.{name} as text (str), not {type(value).__name__}")


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class InputText:
    """Text given to the model."""

    text: str

    def __post_init__(self) -> None:
        check_text(self, "text")

    def to_dict(self) -> dict[str, Any]:
        return tagged("input_text", text=self.text)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputText:
        return cls(need(data, "text"))


@frozen
class InputImage:
    """An image: ``image_url`` is a URL or a ``data:`` URL, ``detail`` is ``low``, ``high`` or ``auto``."""

    image_url: str
    detail: str | None = None

    def __post_init__(self) -> None:
        check_text(self, "image_url")
        check_text(self, "detail", or_none=True)

    def to_dict(self) -> dict[str, Any]:
        return tagged("input_image", image_url=self.image_url, detail=self.detail)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputImage:
        return cls(need(data, "image_url"), data.get("detail"))


@frozen
class InputAudio:
    """Sound: ``data`` is base64 text, ``format`` is ``wav``, ``mp3``, …"""

    data: str
    format: str

    def __post_init__(self) -> None:
        check_text(self, "data", "format")

    def to_dict(self) -> dict[str, Any]:
        return tagged("input_audio", input_audio={"data": self.data, "format": self.format})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputAudio:
        audio = need(data, "input_audio")
        return cls(need(audio, "data"), need(audio, "format"))


@frozen
class InputFile:
    """A file: its content as a ``data:`` URL in ``file_data``, or the ``file_id`` of one uploaded before."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None

    def __post_init__(self) -> None:
        check_text(self, "file_data", "file_id", "filename", or_none=True)
        if self.file_data is None and self.file_id is None:
            raise ConfigError("give an InputFile its file_data or its file_id")

    def to_dict(self) -> dict[str, Any]:
        return tagged("input_file", file_data=self.file_data, file_id=self.file_id, filename=self.filename)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputFile:
        return cls(data.get("file_data"), data.get("file_id"), data.get("filename"))


@frozen
class OutputText:
    """Text the model wrote."""

    text: str

    def __post_init__(self) -> None:
        check_text(self, "text")

    def to_dict(self) -> dict[str, Any]:
        return tagged("output_text", text=self.text)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OutputText:
        return cls(need(data, "text"))


@frozen
class Refusal:
    """The model's words for not answering."""

    refusal: str

    def __post_init__(self) -> None:
        check_text(self, "refusal")

    def to_dict(self) -> dict[str, Any]:
        return tagged("refusal", refusal=self.refusal)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Refusal:
        return cls(need(data, "refusal"))


@frozen
class Other:
    """An item or a part of a type unknown here, kept as it came."""

    raw: dict[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.raw, dict) or not isinstance(self.raw.get("type"), str):
            raise ConfigError(f'give Other a dict that names its "type", not {self.raw!r:.80}')

    def to_dict(self) -> dict[str, Any]:
        return dict(self.raw)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Other:
        return cls(dict(data))


ContentPart = Union[InputText, InputImage, InputAudio, InputFile, OutputText, Refusal, Other]
Content = Union[str, Sequence[Union[ContentPart, str, Mapping[str, Any]]]]

_PARTS: dict[str, Callable[[Mapping[str, Any]], ContentPart]] = {
    "input_text": InputText.from_dict,
    "input_image": InputImage.from_dict,
    "input_audio": InputAudio.from_dict,
    "input_file": InputFile.from_dict,
    "output_text": OutputText.from_dict,
    "refusal": Refusal.from_dict,
}


def part_from_dict(data: Mapping[str, Any]) -> ContentPart:
    """The part that ``data``, in the tagged form, stands for; `Other` when its type is unknown here."""
    return _PARTS.get(str(need(data, "type")), Other.from_dict)(data)


def as_parts(content: Content, text: type[InputText] | type[OutputText]) -> tuple[ContentPart, ...]:
    if isinstance(content, str):
        return (text(content),)
    if not isinstance(content, (list, tuple)):
        raise ConfigError(f"give content as text or as a list of parts, not {type(content).__name__}")
    return tuple(text(part) if isinstance(part, str) else _part(part) for part in content)


def _part(part: ContentPart | Mapping[str, Any]) -> ContentPart:
    if isinstance(part, (InputText, InputImage, InputAudio, InputFile, OutputText, Refusal, Other)):
        return part
    return part_from_dict(part)


def text_of(part: ContentPart) -> str:
    match part:
        case InputText(text) | OutputText(text) | Other({"type": "text", "text": str(text)}):
            return text
    return ""
