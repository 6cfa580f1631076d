"""A cursor: the digest of a recipe, a position and a checksum, as short text. A reader continues a stream from its cursor."""

from __future__ import annotations

import re
from dataclasses import dataclass

import xxhash

from choline_data.errors import InvalidCursorError

_FORM = re.compile(r"chl1\.([0-9a-f]{64})\.(0|[1-9][0-9]{0,17})\.([0-9a-f]{16})")


@dataclass(frozen=True)
class Cursor:
    """A position of a stream. The stream continues with the sample at `position`."""

    recipe: str
    position: int

    def encode(self) -> str:
        """Returns the cursor as text. There is no other encoding."""
        body = f"chl1.{self.recipe}.{self.position}"
        return f"{body}.{xxhash.xxh3_64_hexdigest(body.encode())}"

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Decodes the text that `encode` wrote. Raises InvalidCursorError for any other text."""
        match = _FORM.fullmatch(text) if len(text) <= 128 else None
        if match is None:
            newer = re.match(r"chl([2-9]|[1-9][0-9]+)\.", text[:16])
            raise InvalidCursorError(
                "The cursor was written by a newer version." if newer else "The cursor is damaged or not a cursor.",
                remedy="Upgrade choline-data." if newer else "Pass the cursor unchanged.",
            )
        if xxhash.xxh3_64_hexdigest(text.rpartition(".")[0].encode()) != match[3]:
            raise InvalidCursorError(
                "The cursor is damaged: its checksum is wrong.", remedy="Pass the cursor unchanged."
            )
        return cls(match[1], int(match[2]))
