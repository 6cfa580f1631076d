"""Reads WhatsApp chats that were exported as text: one message for each row, with its date, its speaker and its text.

The date is kept as it is written, because the order of day and month depends on the telephone. A message without a speaker is
one of WhatsApp itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import TextRecord, claim_all, lines_of, record_chunks, shards_of
from choline_data.errors import SourceTooLargeError

_TYPES = {"text": pa.large_string(), "speaker": pa.string(), "written": pa.string(), "attachment": pa.string()}
_MARKS = "\u200e\u200f\u202a\u202c\ufeff"
_DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{2,4},?[ \u202f\u00a0]+\d{1,2}[:.]\d\d(?:[:.]\d\d)?(?:[ \u202f\u00a0]*[AaPp]\.?[Mm]\.?)?"
_BEGIN = re.compile(
    rf"[{_MARKS}]*(?:\[(?P<a>{_DATE})\][ ]|(?P<b>{_DATE}) - )(?:[{_MARKS}]*(?P<speaker>[^:\n]{{1,100}}): )?"
)
_ATTACHED = re.compile(rf"[{_MARKS}]*(?:<attached: (.+?)>|(\S+\.\w+) \(file attached\))")


@dataclass(frozen=True)
class WhatsApp:
    """Reads messages. Lines before the first message are rejected."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the messages from number `start` on."""
        return record_chunks(_messages(lines_of(shard, self.encoding), shard.name), shard, start, _TYPES)


ADAPTER = WhatsApp


def _messages(lines: Iterator[str], name: str) -> Iterator[TextRecord]:
    begun: re.Match[str] | None = None
    text_lines: list[str] = []
    size = 0
    for line in lines:
        match = _BEGIN.match(line)
        if match is not None:
            if begun is not None or text_lines:
                yield _record(begun, text_lines)
            begun, text_lines, size = match, [line[match.end() :]], 0
        else:
            text_lines.append(line)
        size += len(line)
        if size > MAX_ROW_BYTES:
            raise SourceTooLargeError(
                f"{name}: a message is above {MAX_ROW_BYTES:,} characters.", remedy="Split the file."
            )
    if begun is not None or text_lines:
        yield _record(begun, text_lines)


def _record(begun: re.Match[str] | None, text_lines: Sequence[str]) -> TextRecord:
    text = "\n".join(text_lines).strip(_MARKS + "\n")
    if begun is None:
        return TextRecord(fault="lines before the first message")
    attached = _ATTACHED.match(text)
    values = {
        "text": text,
        "speaker": (begun["speaker"] or "").strip(_MARKS + " ") or None,
        "written": begun["a"] or begun["b"],
        "attachment": attached[1] or attached[2] if attached is not None else None,
    }
    return TextRecord(values, len(text) * 2 + 64)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the chats."""
    return claim_all(source, WhatsApp(), "messages of WhatsApp", kind="text")
