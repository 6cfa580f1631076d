"""Reads a file of text as UTF-8, in whatever encoding it is. The encoding is decided for the whole file before reading."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from choline_data.adapters.base import FormatClaim, Shard
from choline_data.adapters.reading import io
from choline_data.adapters.reading.encodings import asked_for, choice_needed, decide, not_decodable, sample_of
from choline_data.errors import InvalidOptionError, SourceDamagedError
from choline_data.places.pins import without_pin

UTF8 = frozenset({"utf-8", "utf-8-sig", "ascii"})
SCANNED_BYTES = 256 << 20  # this many bytes of a file that is not UTF-8 are scanned before its encoding is decided
SETTLED_FILES = 256
_ESCAPE = b"\x1b$"


@runtime_checkable
class ReadsText(Protocol):
    """Interface of an adapter whose files are text. Its option `encoding` overrides the detected encoding."""

    encoding: str


def encoding_of(path: str, name: str, option: str = "", *, rare: float = 0.0) -> str:
    """Returns the encoding of a file. Reads only its beginning if that is UTF-8.

    Raises ChoiceNeededError if the encoding is not clear. But if at most the share `rare` of the first lines has non-ASCII
    bytes, the answer is UTF-8: an adapter that rejects lines then names those that are not.
    """
    stated = asked_for(option, name)
    if stated:
        return stated
    head = io.head(path)
    if head.isascii() and 0 not in head and 0x1B not in head:
        return "utf-8"
    charset = without_pin(path)[1].charset
    decision = decide(head, name, charset)
    if not decision.encoding or decision.found:
        decision = decide(_sample(path), name, charset)
    if decision.encoding:
        return decision.encoding
    lines = head.splitlines()
    if sum(not line.isascii() for line in lines) <= rare * len(lines):
        return "utf-8"
    raise choice_needed(name, decision)


def _sample(path: str) -> bytes:
    """Returns lines with non-ASCII bytes from the whole file, or from its first SCANNED_BYTES."""
    lines: list[bytes] = []
    size = 0
    try:
        for piece in io.pieces(path):
            part = sample_of([piece if not lines else piece[piece.find(b"\n") + 1 :]])
            lines.append(part[: 16 << 10] if size else part)
            size += len(piece)
            if size >= SCANNED_BYTES:
                break
    except SourceDamagedError:  # The adapter meets the same error when it reads the file, and reports it.
        pass
    return sample_of([part for part in lines if part])


def with_file_encodings(adapter: object, shards: Sequence[Shard]) -> list[Shard]:
    """Returns the shards with the encodings of their files, if the adapter reads text. The encodings of other shards
    are decided when they are read.

    Shards of whole documents stay as they are: each document has its own encoding. So do those of adapters with a true
    `states_encoding`, whose files state it in their format.
    """
    if not isinstance(adapter, ReadsText) or getattr(adapter, "states_encoding", False):
        return list(shards)
    known: dict[str, str] = {}
    for shard in shards:
        if shard.path not in known and not shard.files and len(known) < SETTLED_FILES:
            rare = getattr(adapter, "rare", 0.0)
            known[shard.path] = encoding_of(shard.path, shard.name, adapter.encoding, rare=rare)
    return [replace(shard, encoding=known.get(shard.path, "")) if not shard.files else shard for shard in shards]


def with_encoding(taken: list[FormatClaim], encoding: str, location: str) -> list[FormatClaim]:
    """Returns the claims with `--encoding` given to the adapters that read text. Raises InvalidOptionError if there is none."""
    if not any(isinstance(claim.adapter, ReadsText) for claim in taken):
        raise InvalidOptionError(
            f"--encoding {encoding}: no file of {location} is read as text.", remedy="Leave the option out."
        )
    return [
        replace(claim, adapter=replace(claim.adapter, encoding=encoding))  # type: ignore[type-var]
        if isinstance(claim.adapter, ReadsText)
        else claim
        for claim in taken
    ]


def utf8_pieces(pieces: Iterator[bytes], name: str, encoding: str) -> Iterator[bytes]:
    """Yields the pieces of a file in UTF-8, without a byte order mark.

    Raises SourceDamagedError, with the place, at bytes that are not in the encoding. Pieces in UTF-8 are not checked.
    """
    if encoding in UTF8:
        first = next(pieces, b"").removeprefix(codecs.BOM_UTF8)
        if first:
            yield first
        yield from pieces
        return
    for text in texts(pieces, name, encoding):
        yield text.encode("utf-8", "surrogatepass")


def texts(pieces: Iterator[bytes], name: str, encoding: str) -> Iterator[str]:
    """Yields the decoded pieces of a file. Raises SourceDamagedError, with the place, at bytes that are not in the encoding."""
    is_utf8 = encoding in UTF8
    # Python's incremental decoder for utf-8-sig is slow
    decoder = codecs.getincrementaldecoder("utf-8" if is_utf8 else encoding)()
    offset, more = 0, True
    while more:
        piece = next(pieces, None)
        more = piece is not None
        data = piece or b""
        if is_utf8 and not offset and data.startswith(codecs.BOM_UTF8):
            data, offset = data[len(codecs.BOM_UTF8) :], len(codecs.BOM_UTF8)
        unread = decoder.getstate()[0]
        try:
            text = decoder.decode(data, not more)
        except UnicodeDecodeError as error:
            raise not_decodable(name, encoding, unread + data, error.start, offset - len(unread)) from error
        # A search for one byte is many times as fast as a search for two bytes.
        if is_utf8 and 0x1B in data and _ESCAPE in data and b"\x1b(" in data:
            place = data.find(_ESCAPE)
            raise not_decodable(name, encoding, data, place, offset)
        offset += len(data)
        if text:
            yield text
