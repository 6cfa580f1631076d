"""Reads iCalendar and vCard: one event, task or contact for each row, with a column for each property.

A property that stands several times is a list. `parameters` holds the parameters of properties, such as time zones and types,
and `components` the components within an event, such as alarms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import TextRecord, claim_all, lines_of, record_chunks, shards_of
from choline_data.errors import SourceTooLargeError

_TYPES = {
    "component": pa.string(), "parameters": pa.list_(pa.string()), "components": pa.list_(pa.string()),
}  # fmt: skip
_FRAMES = frozenset(
    {"VCALENDAR", "VTIMEZONE", "STANDARD", "DAYLIGHT"}
)  # components that hold records, or describe times
_PROPERTY = re.compile(r'((?:[\w-]+\.)?[\w-]+)((?:;(?:"[^"]*"|[^":])*)?):(.*)$', re.DOTALL)
_ESCAPE = re.compile(r"\\([nN,;\\:])")


@dataclass
class _Component:
    """The component that is being read."""

    name: str
    values: dict[str, list[str]] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)
    inner: list[list[str]] = field(default_factory=list)
    depth: int = 0
    size: int = 0
    fault: str = ""

    def add(self, line: str, number: int) -> None:
        """Adds a line of the component, or of a component inside it."""
        self.size += len(line)
        if line[:6].upper() == "BEGIN:":
            self.depth += 1
            self.inner += [[]] if self.depth == 1 else []
        if self.depth:
            self.inner[-1].append(line)
            self.depth -= line[:4].upper() == "END:"
            return
        match = _PROPERTY.match(line)
        if match is None:
            self.fault = self.fault or f"line {number} is not a property"
            return
        name = match[1].rpartition(".")[2].lower()
        self.values.setdefault(name, []).append(_ESCAPE.sub(lambda m: "\n" if m[1] in "nN" else m[1], match[3]))
        if match[2] or "." in match[1]:
            self.parameters.append(f"{match[1]}{match[2]}".lower() if not match[2] else f"{match[1].lower()}{match[2]}")

    def record(self) -> TextRecord:
        """Returns the component as a record."""
        if self.fault:
            return TextRecord(fault=self.fault)
        values: dict[str, Any] = {name: v[0] if len(v) == 1 else v for name, v in self.values.items()}
        renamed = {(f"property.{k}" if k in _TYPES else k): v for k, v in values.items()}
        about = {
            "component": self.name.lower(),
            "parameters": self.parameters,
            "components": ["\n".join(c) for c in self.inner],
        }
        return TextRecord(about | renamed, self.size * 2 + 64)


@dataclass(frozen=True)
class Calendars:
    """Reads events and contacts. One without its end, or with a line that is not a property, is rejected."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the events or contacts from number `start` on."""
        return record_chunks(_records(_unfolded(lines_of(shard, self.encoding)), shard.name), shard, start, _TYPES)


ADAPTER = Calendars


def _unfolded(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yields the lines with their numbers. A line that begins with a blank continues the line before it."""
    held, at = "", 0
    for number, line in enumerate(lines, 1):
        if line[:1] in (" ", "\t") and at and len(held) <= MAX_ROW_BYTES:
            held += line[1:]
            continue
        if at:
            yield at, held
        held, at = line.lstrip("\ufeff"), number
    if at:
        yield at, held


def _records(lines: Iterator[tuple[int, str]], name: str) -> Iterator[TextRecord]:
    current: _Component | None = None
    for number, line in lines:
        if not line.strip():
            continue
        begins, _, what = line.partition(":")
        what = what.strip().upper()
        if current is None:
            begins = begins.rpartition(".")[2].upper()  # vCard 2.1 writes a group before it: `home.begin:vcard`
            current = _Component(what) if begins == "BEGIN" and what not in _FRAMES else None
        elif begins.upper() == "END" and what == current.name and not current.depth:
            yield current.record()
            current = None
        else:
            current.add(line, number)
            if current.size > MAX_ROW_BYTES:
                raise SourceTooLargeError(
                    f"{name}: a record is above {MAX_ROW_BYTES:,} characters.", remedy="Split the file."
                )
    if current is not None:
        yield TextRecord(fault=f"the last {current.name} is truncated: it has no end")


def detect(source: Source) -> list[FormatClaim]:
    """Claims the calendars and the files of contacts."""
    return claim_all(source, Calendars(), "events or contacts", kind="tabular")
