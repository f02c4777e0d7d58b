"""What stands in the list of a prompt → items and message dicts.

    item, message dict ─────────▶ itself
    dict of `to_dict` ──────────▶ its item
    Turn ───────────────────────▶ its items
    object with model_dump() ───▶ the dict that it returns, without the keys that are None; also inside a message dict

Rules:
- Anything else raises `ConfigError` that names its place and what to write instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from ..errors import ConfigError
from ..types.items import ResponseItem, item_from_dict
from ..types.parts import ContentPart, Other
from ..types.prompt import has_model_dump, type_name
from ..types.turn import Turn

Item = ResponseItem | Mapping[str, Any]
PARTS = get_args(ContentPart)

# Part types that Chat Completions does not know. input_audio and refusal are the same in both forms.
TAGGED_ONLY = ("input_text", "output_text", "output_image", "input_image", "input_file")
PART_TYPES = (*TAGGED_ONLY, "input_audio", "refusal", "text", "image_url", "file")


def read_items(values: Iterable[object]) -> Iterator[Item]:
    """The items and message dicts of a prompt's ``input``."""
    for index, value in enumerate(values):
        if isinstance(value, Turn):
            yield from value.items
        elif has_model_dump(value):
            yield _of_model(value, index)
        else:
            yield _to_item(value, index)


def dumped(value: Any) -> Any:
    """The dict of an object with ``model_dump()``; any other value is returned itself."""
    return _without_none(value.model_dump()) if has_model_dump(value) else value


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, (list, tuple)) else value


def _of_model(value: object, index: int) -> Item:
    data = dumped(value)
    if isinstance(data, Mapping) and "role" in data:
        return _to_item(data, index)
    if isinstance(data, Mapping) and "type" in data and not isinstance(item := item_from_dict(data), Other):
        return item
    raise ConfigError(
        f"input[{index}] is {type_name(value)}, whose model_dump() is not a message: pass only the message "
        "(for openai-python, response.choices[0].message; for LangChain, convert_to_openai_messages(messages))"
    )


def _to_item(value: object, index: int) -> Item:
    """``value`` as an item or a message dict; a dict of `to_dict` becomes its item."""
    if isinstance(value, Other) and not isinstance(item := item_from_dict(value.raw), Other):
        return item  # an Other of a type that is known here is that item
    if isinstance(value, ResponseItem):
        return value
    if isinstance(value, Mapping) and "role" in value and value.get("type") != "message":
        return value
    if isinstance(value, Mapping) and "type" in value and value["type"] not in PART_TYPES:
        return item_from_dict(value)
    hint = "use Message(role, text) or another item, or a message dict with a role"
    if isinstance(value, str):
        hint = f'use Message("user", {value!r:.60}), or pass only the text as the prompt'
    elif isinstance(value, tuple) and len(value) == 2 and all(isinstance(each, str) for each in value):
        hint = f"use Message({value[0]!r:.20}, {value[1]!r:.60})"
    elif isinstance(value, PARTS):
        hint = 'a part belongs into a message, as in Message("user", ["What is this?", image])'
    elif isinstance(value, (list, tuple)):
        hint = "add its items with prompt.input += items, instead of the list itself"
    raise ConfigError(f"input[{index}] is {type_name(value)}: {hint}")
