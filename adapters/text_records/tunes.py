"""Reads ABC music: one tune for each row, with its whole notation as text and its header fields as columns.

A field that a tune repeats, such as its titles, is a list. Fields above the first tune hold for all tunes that do not state them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source
from choline_data.adapters.text_records.line_records import LineRecords, TextRecord, claim_all, paragraphs

_FIELD = re.compile(r"([A-Za-z]):\s*(.*?)\s*(?:(?<!\\)%.*)?$")
_NAMES = {"X": "number", "T": "titles", "C": "composers", "M": "meter", "L": "unit", "Q": "tempo", "K": "key", "R": "rhythm",
          "O": "origin", "B": "book", "S": "source_of", "N": "notes", "Z": "transcription_by", "D": "discography", "A": "area",
          "H": "history", "G": "group", "P": "parts", "F": "file"}  # fmt: skip
_LISTS = frozenset({"T", "C", "N", "H", "S", "D", "B", "Z"})


@dataclass(frozen=True)
class Tunes(LineRecords):
    """Reads tunes. Text between the tunes is no row. A tune without a key (K:) is rejected."""

    types: ClassVar[Mapping[str, pa.DataType]] = {"text": pa.large_string(), "number": pa.string(), "key": pa.string()}

    def records(self, lines: Iterator[str], shard: Shard) -> Iterator[TextRecord]:
        """Yields the tunes of a file. A blank line ends a tune."""
        shared: dict[str, list[str]] = {}
        is_first = True
        for block in paragraphs(lines, shard.name):
            start = next((at for at, line in enumerate(block) if line.startswith("X:")), -1)
            if start < 0:
                if is_first:
                    _collect(block, shared)
                is_first = False
                continue
            is_first = False
            yield _tune(block[start:], shared)


ADAPTER = Tunes


def _collect(lines: list[str], fields: dict[str, list[str]]) -> bool:
    """Adds the fields of a header up to its key. Returns whether there is a key."""
    own: dict[str, list[str]] = {}
    for line in lines:
        match = _FIELD.match(line)
        if match is None:
            continue
        own.setdefault(match[1], []).append(match[2])
        if match[1] == "K":
            break
    fields.update(own)
    return "K" in own


def _tune(block: list[str], shared: Mapping[str, list[str]]) -> TextRecord:
    fields = dict(shared)
    if not _collect(block, fields):
        return TextRecord(fault="a tune without a key (K:)")
    values: dict[str, Any] = {"text": "\n".join(block) + "\n"}
    for letter, found in fields.items():
        if letter in _NAMES:
            values[_NAMES[letter]] = found if letter in _LISTS else found[-1] if letter == "K" else "\n".join(found)
    return TextRecord(values, 2 * len(values["text"]))


def detect(source: Source) -> list[FormatClaim]:
    """Claims the ABC files."""
    return claim_all(source, Tunes(), "tunes in ABC notation", kind="text")
