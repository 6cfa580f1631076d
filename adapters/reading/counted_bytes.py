"""Takes bytes one after another from a file that is read in pieces, with bounded memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from choline_data.errors import SourceDamagedError, SourceTooLargeError


class CountedBytes:
    """The bytes of a file from its beginning. `name` is the file's name in errors."""

    def __init__(self, pieces: Iterator[bytes], name: str, limit: int) -> None:
        self._pieces = pieces
        self._name, self._limit = name, limit
        self._held = b""
        self._at = 0
        self.done = 0  # the number of bytes that were taken

    def take(self, size: int) -> bytes:
        """Returns the next bytes. Raises SourceDamagedError if the file has fewer, SourceTooLargeError above the limit."""
        if size < 0 or not self._holds(size):
            raise SourceDamagedError(
                f"{self._name} ends within a record, after {self.done:,} bytes.", remedy="Fetch the file again."
            )
        content = self._held[self._at : self._at + size]
        self._at += size
        self.done += size
        return content

    def unpack(self, kind: str) -> Any:
        """Returns the value of the next bytes, which `struct` unpacks by this format."""
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def at_end(self) -> bool:
        """Whether no byte is left."""
        return not self._holds(1)

    def _holds(self, size: int) -> bool:
        """Reads further pieces until this many bytes are in memory, or the file ends."""
        if size > self._limit:
            raise SourceTooLargeError(
                f"{self._name}: a value of {size:,} bytes after {self.done:,} bytes; the limit is {self._limit:,}.",
                remedy="Split the file, or check that its format is the stated one.",
            )
        if len(self._held) - self._at >= size:
            return True
        parts = [self._held[self._at :]]
        held = len(parts[0])
        while held < size and (piece := next(self._pieces, None)) is not None:
            parts.append(piece)
            held += len(piece)
        self._held, self._at = b"".join(parts), 0
        return held >= size
