"""The keys that a run has met, and where their lines are in its file, in little memory.

    key ─claim▶ how often it was claimed before             key ─place▶ where its line begins

Rules:
- A hash table in arrays of numbers: about 30 bytes for each key, where a dict takes four times as much.
- Keys are told apart by 64 bits of their SHA-256: of thirty million runs with a million prompts each, one has two
  keys with the same.
"""

from __future__ import annotations

from array import array
from hashlib import sha256

FIRST_SLOTS = 1024  # a power of two, as all their numbers are


class Index:
    """A table of keys."""

    def __init__(self) -> None:
        self._slots = array("I", [0]) * FIRST_SLOTS  # the number of an entry, counted from 1; 0 for a free slot
        self._digests = array("Q")
        self._places = array("q")
        self._claims = array("I")

    def put(self, key: str, place: int) -> None:
        """Note where the line of a key begins."""
        self._places[self._entry(key)] = place

    def place(self, key: str) -> int | None:
        """Where the line of a key begins; None if it has none."""
        place = self._places[self._entry(key)]
        return None if place < 0 else place

    def claim(self, key: str) -> int:
        """Count a claim of a key. How often it was claimed before."""
        entry = self._entry(key)
        self._claims[entry] += 1
        return self._claims[entry] - 1

    def _entry(self, key: str) -> int:
        """Where the entry of a key is in the arrays; it is made if there is none."""
        digest = int.from_bytes(sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")
        slot = self._slot(digest)
        if number := self._slots[slot]:
            return number - 1
        self._digests.append(digest)
        self._places.append(-1)
        self._claims.append(0)
        self._slots[slot] = len(self._digests)
        if 3 * len(self._digests) > 2 * len(self._slots):
            self._grow()
        return len(self._digests) - 1

    def _slot(self, digest: int) -> int:
        """The slot of a digest, or the free one where it belongs."""
        mask = len(self._slots) - 1
        slot = digest & mask
        while (number := self._slots[slot]) and self._digests[number - 1] != digest:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        self._slots = array("I", [0]) * (2 * len(self._slots))
        for number, digest in enumerate(self._digests, 1):
            self._slots[self._slot(digest)] = number
