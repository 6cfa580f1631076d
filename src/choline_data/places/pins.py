"""The pin of a remote file: its size and checksum, as far as they are known before the file is read. The pin travels with the
file's address, as a fragment of the URL.

A fragment is never sent to a server. So every process that gets the address also gets the pin, and notices a file that has
changed since it was listed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import parse_qsl, urlencode

_MARK = "#choline-pin?"


@dataclass(frozen=True)
class FilePin:
    """The size, the checksum and the validators of a remote file. An empty value is unknown.

    `checksum` is `sha256:…` of the content, or `git:…`, the hash of a git blob. `charset` is the encoding that the server
    states in `Content-Type`.
    """

    size: int = -1
    checksum: str = ""
    etag: str = ""
    modified: str = ""
    charset: str = ""

    def on(self, location: str) -> str:
        """Returns the location with this pin as its fragment."""
        stated = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return location + _MARK + urlencode(stated) if stated else location


def without_pin(location: str) -> tuple[str, FilePin]:
    """Splits a location into the location without its pin, and the pin."""
    place, mark, stated = location.partition(_MARK)
    values: dict[str, Any] = dict(parse_qsl(stated)) if mark else {}
    return place, FilePin(**{**values, "size": int(values.get("size", -1))})


class RunningChecksum:
    """Computes the checksum of a pin from bytes in order."""

    def __init__(self, pin: FilePin) -> None:
        kind, _, self.expected = pin.checksum.partition(":")
        self._hash: Any = None
        if kind == "sha256":
            self._hash = hashlib.sha256()
        elif kind == "git" and pin.size >= 0:
            self._hash = hashlib.sha1(b"blob %d\x00" % pin.size, usedforsecurity=False)

    def add(self, data: bytes | memoryview) -> None:
        """Adds the next bytes."""
        if self._hash is not None:
            self._hash.update(data)

    def matches(self) -> bool:
        """Whether all bytes together have the expected checksum. True if no checksum is known."""
        return self._hash is None or self._hash.hexdigest() == self.expected
