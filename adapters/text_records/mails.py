"""Reads mail: one message for each row, from mbox files and from single messages (EML).

`text` is the plain text of a message, or its HTML if there is no plain text. Names of attachments are listed, not their bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import parsedate_to_datetime

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.text_records.line_records import TextRecord, claim_all, record_chunks, shards_of
from choline_data.errors import SourceTooLargeError, one_line

_TYPES = {
    "text": pa.large_string(),
    "subject": pa.string(),
    "from": pa.string(),
    "to": pa.string(),
    "date": pa.string(),
    "message_id": pa.string(),
    "in_reply_to": pa.string(),
    "cc": pa.string(),
    "reply_to": pa.string(),
    "references": pa.string(),
    "list_id": pa.string(),
    "is_html": pa.bool_(),
    "attachments": pa.list_(pa.string()),
}
_FROM_LINE = re.compile(rb"From \S+ .*\d{4}\s*$")
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)


@dataclass(frozen=True)
class Mails:
    """Reads messages. A message above `max_row_bytes` is rejected."""

    max_row_bytes: int = MAX_ROW_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the messages from number `start` on."""
        return record_chunks(map(self._record, self._messages(shard)), shard, start, _TYPES)

    def _messages(self, shard: Shard) -> Iterator[bytes | int]:
        """Yields the bytes of each message. For a message above `max_row_bytes`, yields its size as an int instead."""
        lines = _lines(shard)
        first = next(lines, b"")
        if not first:
            return
        is_mbox = _FROM_LINE.match(first) is not None
        held: list[bytes] = [] if is_mbox else [first]
        size, blank = len(first), False
        for line in lines:
            if is_mbox and blank and _FROM_LINE.match(line):
                yield size if size > self.max_row_bytes else _unwrapped(b"".join(held))
                held, size = [], 0
                continue
            size += len(line)
            if size <= self.max_row_bytes:
                held.append(line)
            blank = not line.strip()
        joined = b"".join(held)
        yield size if size > self.max_row_bytes else _unwrapped(joined) if is_mbox else joined

    def _record(self, message: bytes | int) -> TextRecord:
        if isinstance(message, int):
            return TextRecord(fault=f"{message:,} bytes; the limit (max_row_bytes) is {self.max_row_bytes:,}")
        try:
            parsed = BytesParser(EmailMessage, policy=policy.default).parsebytes(message)
            return TextRecord(_values(parsed), len(message))
        except (ValueError, LookupError, AttributeError, TypeError, IndexError) as error:
            return TextRecord(fault=f"not a message: {one_line(error, 120)}")


ADAPTER = Mails


def _unwrapped(message: bytes) -> bytes:
    """Returns a message of a mailbox without the blank line at its end, and without the `>` before lines that begin
    with "From".
    """
    ended = message.removesuffix(b"\n") if message.endswith((b"\n\n", b"\n\r\n")) else message
    return _QUOTED_FROM.sub(rb"\1", ended.removesuffix(b"\r"))


def _lines(shard: Shard) -> Iterator[bytes]:
    for block in io.line_blocks(shard.path, shard.name):
        if isinstance(block, int):
            raise SourceTooLargeError(f"{shard.name}: a line of {block:,} bytes.", remedy="Is it a file of mail?")
        yield from block.splitlines(keepends=True)


def _values(message: EmailMessage) -> dict[str, object]:
    body = message.get_body(("plain", "html"))
    return {
        "text": body.get_content(errors="strict") if body is not None else "",
        "subject": _header(message, "subject"),
        "from": _header(message, "from"),
        "to": _header(message, "to"),
        "date": _date(message),
        "message_id": _header(message, "message-id"),
        "in_reply_to": _header(message, "in-reply-to"),
        "cc": _header(message, "cc"),
        "reply_to": _header(message, "reply-to"),
        "references": _header(message, "references"),
        "list_id": _header(message, "list-id"),
        "is_html": body is not None and body.get_content_subtype() == "html",
        "attachments": [part.get_filename() or part.get_content_type() for part in message.iter_attachments()],
    }


def _header(message: EmailMessage, name: str) -> str | None:
    value = message[name]
    if value is not None and "\ufffd" in str(value):
        raise ValueError(f"the header {name} has bytes in an unknown encoding")
    return None if value is None else str(value)


def _date(message: EmailMessage) -> str | None:
    """Returns the date in ISO 8601, or as it stands in the message if it is not a date."""
    value = _header(message, "date")
    try:
        return parsedate_to_datetime(value).isoformat() if value else None
    except (ValueError, TypeError):
        return value


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of mail."""
    return claim_all(source, Mails(), "mail messages", kind="text")
