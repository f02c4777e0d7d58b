"""Which assistant message an earlier reasoning belongs to, and how a server wants it back.

    Reasoning ─hold▶ … ─place▶ message[key]

Rules:
- Reasoning belongs to the assistant message that follows it, or to the one before it if none follows.
- It is sent under the one key that the provider names; strict servers refuse any other, and most need none.
- Blank reasoning is never sent. What a message dict has under the key is the caller's, and stays.
"""

from __future__ import annotations

from typing import Any

from ..types.items import Reasoning

DETAILS = "reasoning_details"


class ReasoningEcho:
    """Puts reasoning back onto messages; ``key``, ``always`` and ``scope`` are the provider's ``echo_reasoning``,
    ``echo_reasoning_always`` and ``echo_reasoning_scope``."""

    def __init__(self, key: str | None = None, always: bool = False, scope: str = "all") -> None:
        self._key = key
        self._always = always
        self._scope = scope
        self._held: list[Reasoning] = []
        self._of: dict[int, list[Reasoning]] = {}  # by the number of the message that they belong to

    def hold(self, item: Reasoning) -> None:
        """Take a reasoning item, until the message that it belongs to is known."""
        self._held.append(item)

    def place(self, messages: list[dict[str, Any]], before: int) -> None:
        """What is held belongs to the newest message if the assistant wrote it, else to number ``before`` - 1."""
        index = len(messages) - 1 if messages[-1]["role"] == "assistant" else before - 1
        self._of.setdefault(index, []).extend(self._held)
        self._held.clear()

    def finish(self, messages: list[dict[str, Any]]) -> None:
        """Put everything where it belongs, within ``scope``; what is still held belongs to the last message."""
        if messages:
            self.place(messages, len(messages))
        if self._key is None:
            return
        last_user = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            if self._scope == "all" or index > last_user:
                self._put(self._key, self._of.get(index, []), message)
            if self._always and message.get(self._key) is None:
                message[self._key] = [] if self._key == DETAILS else ""

    def _put(self, key: str, items: list[Reasoning], message: dict[str, Any]) -> None:
        present = message.get(key)
        if key == DETAILS:
            details = [entry for item in items for entry in with_signatures(list(item.details))]
            if details:
                message[key] = [*(present if isinstance(present, list) else ()), *details]
        elif isinstance(present, (str, type(None))):
            texts = [present or "", *(item.text or "\n".join(item.summary) for item in items)]
            if text := "\n".join(text for text in texts if text.strip()):
                message[key] = text


def with_signatures(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of ``reasoning_details`` as they came, but for text that came in pieces with its signature last.

    OpenRouter streams one block so, and Anthropic behind it refuses a signature apart from the whole of its text.
    """
    joined: list[dict[str, Any]] = []
    for entry in details:
        pieces: list[dict[str, Any]] = []
        while entry.get("signature") and joined and _is_unsigned_piece(joined[-1], entry):
            pieces.insert(0, joined.pop())
        if pieces:
            text = "".join(piece["text"] for piece in pieces) + str(entry.get("text") or "")
            entry = {**pieces[0], **entry, "text": text}  # noqa: PLW2901
        joined.append(entry)
    return joined


def _is_unsigned_piece(piece: dict[str, Any], signed: dict[str, Any]) -> bool:
    same_block = all(piece.get(key) == signed.get(key) for key in ("type", "index"))
    return same_block and not piece.get("signature") and isinstance(piece.get("text"), str)
