"""Finds media that a source writes as text: `data:` URIs, base64 in JSON, and the parts of a turn that hold pictures or sound."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from choline_data.adapters.reading.media import mime_of

_DATA_URI = re.compile(r"data:(?:image|audio|video)/[\w.+-]+(?:;[\w.+-]+=[^;,]*)*(;base64)?,", re.IGNORECASE)
_SHORTEST = 16  # characters of base64; no picture or sound is shorter
_LONGEST_MARK = 200


def data_uri_kind(text: str) -> str:
    """Returns "image", "audio" or "video" if the text is a `data:` URI of such a medium; else ""."""
    match = _DATA_URI.match(text[:_LONGEST_MARK])
    return match[0][len("data:") :].partition("/")[0].lower() if match else ""


def medium_in_text(text: str) -> bytes | None:
    """Returns the bytes of a `data:` URI, or of base64 whose first bytes are those of a medium. None for any other text."""
    uri = _DATA_URI.match(text[:_LONGEST_MARK])
    if uri is not None:
        return _decoded(unquote_to_bytes(text[uri.end() :])) if uri[1] else unquote_to_bytes(text[uri.end() :])
    if len(text) < _SHORTEST or not text.isascii():
        return None
    data = _decoded(text.encode())
    return data if data is not None and mime_of(data[:4096]) else None


def _decoded(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        return None


def media_in_turns(value: Any) -> Iterator[bytes]:
    """Returns the media in the parts of a conversation, in their order: `data:` URIs, `{data: base64}` and `{bytes:
    base64}`.
    """
    if isinstance(value, list):
        for item in value:
            yield from media_in_turns(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, str):
                medium = medium_in_text(item) if data_uri_kind(item) or key in ("data", "bytes") else None
                if medium is not None:
                    yield medium
            else:
                yield from media_in_turns(item)
