"""Seals: a seal is a checksum inside a small object of the home, over the object's name and all its other bytes.

The checksum covers the name, so it also detects an object that was copied over another one. Objects that an older
version wrote have no seal. They can still be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import xxhash

KEY = "xxh3"
_DIGITS = 16
_BLANK = "0" * _DIGITS
_MARK = b'"xxh3":"'


class BrokenSealError(ValueError):
    """The error for an object that does not match its seal: its bytes or its name have changed."""


def checksum(name: str, content: bytes) -> str:
    """Returns the checksum of an object with this name and content."""
    digest = xxhash.xxh3_64(name.encode() + b"\0")
    digest.update(content)
    return digest.hexdigest()


def sealed(name: str, encode: Callable[[str], bytes]) -> bytes:
    """Returns the bytes of an object with its checksum inside. `encode` makes the bytes; it puts its argument, the
    checksum, into JSON under KEY.
    """
    return encode(checksum(name, encode(_BLANK)))


def is_intact(name: str, raw: bytes) -> bool | None:
    """Returns whether the object's bytes match its seal; None if it has no seal."""
    at = raw.rfind(_MARK)
    if at < 0:
        return None
    stated = raw[at : at + len(_MARK) + _DIGITS]
    return checksum(name, raw.replace(stated, _MARK + _BLANK.encode())) == stated[len(_MARK) :].decode(
        "ascii", "replace"
    )


def seal_json(name: str, body: Mapping[str, Any]) -> bytes:
    """Returns `body` as JSON with a seal."""
    return sealed(name, lambda stated: orjson.dumps({KEY: stated, **body}))


def unseal_json(name: str, raw: bytes, *, before: bytes) -> dict[str, Any]:
    """Returns the body that `seal_json` wrote. Raises BrokenSealError if the object is damaged.

    An object without a seal must begin with the bytes `before`, as objects of older versions do.
    """
    intact = is_intact(name, raw)
    if intact is False or (intact is None and not raw.startswith(before)):
        raise BrokenSealError(name)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BrokenSealError(name) from error
    if not isinstance(body, dict):
        raise BrokenSealError(name)
    body.pop(KEY, None)
    return body
