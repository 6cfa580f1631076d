"""Reads PO files of gettext: one message for each row, with its translation, context and comments.

The header gives the column `language`. Obsolete messages (`#~`) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import TextRecord, claim_all, lines_of, record_chunks, shards_of

_TYPES = {
    "source": pa.large_string(),
    "translation": pa.large_string(),
    "language": pa.string(),
    "context": pa.string(),
    "plural": pa.large_string(),
    "translations": pa.list_(pa.string()),
    "flags": pa.list_(pa.string()),
    "comment": pa.string(),
    "places": pa.list_(pa.string()),
}
_KEYWORD = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr(?:\[(\d+)\])?)\s+"((?:[^"\\]|\\.)*)"\s*$')
_MORE = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*$')
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|(.))")
_CHARACTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_LANGUAGE = re.compile(r"^Language: *(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class PoFile:
    """Reads messages. A message with a line that does not belong in a PO file is rejected. An empty translation is
    null.
    """

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the messages from number `start` on. The header is not a message."""
        return record_chunks(_records(lines_of(shard, self.encoding)), shard, start, _TYPES)


ADAPTER = PoFile


class _Message:
    """The message that is being read: its texts by keyword, and its comments by their mark."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.comments: dict[str, list[str]] = {}
        self.last = self.fault = ""
        self.size = 0

    @property
    def has_translation(self) -> bool:
        return any(key.startswith("msgstr") for key in self.texts)

    def add(self, line: str, number: int) -> None:
        """Adds a line of the file to the message."""
        self.size += len(line)
        if line.startswith("#"):
            self.comments.setdefault(line[1:2].strip(), []).append(line[2:].strip())
        elif match := _KEYWORD.match(line):
            self.last = match[1]
            if self.last in self.texts:
                self.fault = self.fault or f"line {number}: {self.last} stands twice"
            self.texts[self.last] = _unescaped(match[3])
        elif (match := _MORE.match(line)) and self.last:
            self.texts[self.last] += _unescaped(match[1])
        else:
            self.fault = self.fault or f"line {number} is not a line of a PO file"

    def record(self, language: str | None) -> TextRecord:
        """Returns the message as a record."""
        if self.fault:
            return TextRecord(fault=self.fault)
        plural = [text for key, text in sorted(self.texts.items()) if key.startswith("msgstr[")]
        values: dict[str, Any] = {
            "source": self.texts.get("msgid"),
            "translation": self.texts.get("msgstr") or (plural[0] if plural else "") or None,
            "language": language,
            "context": self.texts.get("msgctxt"),
            "plural": self.texts.get("msgid_plural"),
            "translations": plural or None,
            "flags": [flag.strip() for line in self.comments.get(",", []) for flag in line.split(",")],
            "comment": "\n".join(self.comments.get("", []) + self.comments.get(".", [])) or None,
            "places": [place for line in self.comments.get(":", []) for place in line.split()],
        }
        return TextRecord(values, self.size * 2)


def _records(lines: Iterator[str]) -> Iterator[TextRecord]:
    language: str | None = None
    for message in _messages(lines):
        if message.texts.get("msgid") == "" and "msgctxt" not in message.texts and not message.fault:
            match = _LANGUAGE.search(message.texts.get("msgstr", ""))
            language = match[1] if match else None
        elif message.texts or message.fault:
            yield message.record(language)


def _messages(lines: Iterator[str]) -> Iterator[_Message]:
    message = _Message()
    for number, line in enumerate(lines, 1):
        if line.startswith(("#~", "#|")) or not line.strip():
            continue
        begins = line.startswith(("#", "msgctxt")) or re.match(r"msgid\s", line) is not None
        if begins and (message.has_translation or message.fault):
            yield message
            message = _Message()
        message.add(line, number)
    yield message


def _unescaped(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        if match[1] or match[2]:
            return chr(int(match[1] or match[2], 16 if match[1] else 8))
        return _CHARACTERS.get(match[3], match[3])

    return _ESCAPE.sub(character, text) if "\\" in text else text


def detect(source: Source) -> list[FormatClaim]:
    """Claims the PO files."""
    return claim_all(source, PoFile(), "PO messages")
