"""Payloads → chunks: decodes JSON, within limits, and leaves the reading of the object to `spelling`.

    payload ─FastPath, or JSON and spelling▶ Chunk

Rules:
- What is no JSON is a chunk that says so; the state machine knows whether that matters.
- Nothing is lost: what is not read is in ``extra`` if it is an object or a list, and in ``raw`` in any case.
- No half of a surrogate pair gets past here, but at the ends of texts that the next chunk may complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import excerpt
from ..types.limits import Limits
from ..types.text import all_without_surrogates, has_surrogates
from .chunk import DONE_WORDS, BodyPayload, ChoiceDelta, Chunk, Payload
from .error_body import error_detail, make_detail
from .fastpath import FastPath
from .fields import clean_extra
from .lenient import check_containers, check_count, count_containers, load, only_object
from .other_wires import other_wire
from .spelling import read_any, read_fast

FEW_CONTAINERS = 16  # of one chunk, which need not be counted
_DONE = Chunk(done=True)


class ChunkReader:
    """Reads chunks out of payloads. ``seen`` counts the payloads, ``skipped`` those that were no JSON, where skipping
    them is allowed."""

    __slots__ = ("_containers", "_fast_path", "_most_containers", "_skip_undecodable", "newest", "seen", "skipped")

    def __init__(self, skip_undecodable: bool = False, limits: Limits | None = None) -> None:
        self.seen = 0
        self.skipped = 0
        self._skip_undecodable = skip_undecodable
        self._most_containers = (limits or Limits()).json_containers
        self._containers = 0  # lists and objects that are kept of the whole answer
        self.newest = ""
        self._fast_path = FastPath(self._decode)

    @property
    def raw(self) -> dict[str, Any] | None:
        """The JSON object of the newest chunk, decoded on each access; None if there was none."""
        try:
            return only_object(all_without_surrogates(load(self.newest.strip())))
        except (ValueError, RecursionError):
            return None

    def read(self, payloads: Iterable[Payload]) -> Iterator[Chunk]:
        """The chunks of ``payloads``, one by one on demand. Raises `StreamTooLarge`."""
        return filter(None, map(self._chunk, payloads))

    def _chunk(self, payload: Payload) -> Chunk | None:
        self.seen += 1
        data = payload.data
        if payload.event != "message":
            chunk = self._named(payload)
        elif data.startswith("{"):
            chunk = self._fast_path.chunk(data) or self._object(payload, data)
        else:
            chunk = self._other_data(payload, data.strip())
        if chunk is not None and chunk is not _DONE and not chunk.undecodable:
            self.newest = data
        return chunk

    def _object(self, payload: Payload, data: str) -> Chunk | None:
        try:
            chunk = self._decode(data)
        except (ValueError, RecursionError) as error:
            return self._undecodable(data, str(error))
        if payload.__class__ is BodyPayload:  # the whole answer at once
            return chunk._replace(done=bool(chunk.choices))
        self._fast_path.observe(data, chunk)
        return chunk

    def _other_data(self, payload: Payload, data: str) -> Chunk | None:
        if data in DONE_WORDS:
            return _DONE
        if not data:
            return None
        if data.startswith("{"):  # after blanks
            return self._object(payload, data)
        if data.startswith("["):  # Gemini: an error comes as a list of one
            try:
                found = self._load(data)
                if found and (foreign := self._foreign("", found[0])):  # Gemini's own stream is a list
                    return foreign
                if body := only_object(found):
                    return self._counted(read_any(body), body, data)
            except (ValueError, RecursionError):
                pass
        return self._undecodable(data, "not a JSON object")

    def _named(self, payload: Payload) -> Chunk | None:
        """The chunk of a named event: what has choices is a chunk, an error counts (Groq), and all others do not."""
        data, body = payload.data, None
        if payload.event != "error" and (chunk := self._fast_path.chunk(data)):
            return chunk
        try:
            body = self._load(data) if data.startswith(("{", "[")) else None
            if isinstance(body, dict) and "choices" in body:
                return self._object(payload, data)
            found = error_detail(body)
        except (ValueError, RecursionError):
            found = None
        if payload.event != "error":
            return self._foreign(payload.event, body)
        return Chunk(error=found or make_detail(excerpt(data)))

    def _foreign(self, name: str, body: Any) -> Chunk | None:
        """The end of an answer that begins as one of another interface; None where chunks came before."""
        sentence = "" if self.newest else other_wire(name, body)
        return Chunk(undecodable=sentence) if sentence else None

    def _undecodable(self, data: str, reason: str) -> Chunk | None:
        if self._skip_undecodable:
            self.skipped += 1
            return None
        return Chunk(undecodable=f"an event is not a chunk ({reason}): {excerpt(data)!r}")

    def _load(self, data: str) -> Any:
        check_containers(data, self._most_containers)
        return load(data)

    def _decode(self, data: str) -> Chunk:
        body = self._load(data)
        return read_fast(body) or self._foreign("", body) or self._counted(read_any(body), body, data)

    def _counted(self, chunk: Chunk, body: dict[str, Any], data: str) -> Chunk:
        """The chunk, whose lists and objects are counted if the answer keeps any. Raises `StreamTooLarge`."""
        if chunk.extra or chunk.usage or any(map(_keeps_more_than_text, chunk.choices)):
            self._containers += max(count_containers(data) - FEW_CONTAINERS, 0)
            check_count(self._containers, self._most_containers)
        return _without_halves(chunk, body) if "\\ud" in data or "\\uD" in data else chunk


def _keeps_more_than_text(choice: ChoiceDelta) -> bool:
    return bool(choice.extra or choice.details or choice.parts or [call for call in choice.calls if call.extra])


def _without_halves(chunk: Chunk, body: dict[str, Any]) -> Chunk:
    """The chunk without lone surrogates, but for those in texts that the next chunk may complete."""
    if not has_surrogates(json.dumps(body, ensure_ascii=False)):
        return chunk
    clean = read_any(all_without_surrogates(body))
    extra = chunk.extra and clean_extra(chunk.extra)
    return clean._replace(extra=extra, choices=tuple(map(_with_texts, clean.choices, chunk.choices)))


def _with_texts(clean: ChoiceDelta, delta: ChoiceDelta) -> ChoiceDelta:
    calls = [call._replace(arguments=own.arguments) for call, own in zip(clean.calls, delta.calls, strict=True)]
    parts = [own if isinstance(own, str) else part for part, own in zip(clean.parts, delta.parts, strict=True)]
    return clean._replace(
        text=delta.text,
        reasoning=delta.reasoning,
        refusal=delta.refusal,
        calls=tuple(calls),
        parts=tuple(parts),
        extra=delta.extra and clean_extra(delta.extra),
    )
