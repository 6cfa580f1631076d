"""Reads BibTeX: one entry for each row, with its type, its key and a column for each field.

Abbreviations that the file defines (`@string`) are replaced by their texts, and `#` joins two texts. Comments and
preambles are not entries. Braces and TeX commands within a value are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import (
    TextRecord,
    claim_all,
    damaged,
    lines_of,
    record_chunks,
    shards_of,
)
from choline_data.errors import SourceDamagedError, SourceTooLargeError

MAX_CHARS = 256 << 20
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_ENTRY = re.compile(r"@\s*(\w+)\s*([{(])")
_KEY = re.compile(r"\s*([^,\s{}()\"]*)\s*,?")
_FIELD = re.compile(r"\s*([^\s=,{}()\"#]+)\s*=\s*")
_BARE = re.compile(r"[^\s,#{}()\"]+")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_QUOTE = re.compile(r'\\.|[{}"]', re.DOTALL)


@dataclass(frozen=True)
class BibTeX:
    """Reads entries. A file that ends within an entry is damaged."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the entries from number `start` on."""
        text = "\n".join(lines_of(shard, self.encoding))
        if len(text) > MAX_CHARS:
            raise SourceTooLargeError(
                f"{shard.name}: BibTeX of more than {MAX_CHARS >> 20} MiB.", remedy="Split the file."
            )
        return record_chunks(
            _Entries(text, shard.name).records(), shard, start, {"type": pa.string(), "key": pa.string()}
        )


ADAPTER = BibTeX


class _Entries:
    """Iterates over the entries in the text of a file. `_at` is the position of the next character."""

    def __init__(self, text: str, name: str) -> None:
        self._text, self._name, self._at = text, name, 0
        self._strings = {month: month for month in _MONTHS}

    def records(self) -> Iterator[TextRecord]:
        """Yields the entries. Text between entries is a comment."""
        while match := _ENTRY.search(self._text, self._at):
            begin, self._at = match.start(), match.end()
            kind = match[1].lower()
            if kind in ("comment", "preamble"):
                self._skip(match)
                continue
            if kind == "string":
                self._strings |= dict(self._fields(begin))
                continue
            key = _KEY.match(self._text, self._at)
            self._at = key.end() if key else self._at
            fields = list(self._fields(begin))
            names = [name for name, _ in fields]
            repeated = next((name for name in names if names.count(name) > 1 or name in ("type", "key")), "")
            if repeated and names.count(repeated) > 1:
                yield TextRecord(fault=f"line {self._line(begin)}: the field {repeated!r} stands twice")
                continue
            values = {(f"field.{name}" if name in ("type", "key") else name): value for name, value in fields}
            yield TextRecord({"type": kind, "key": key[1] if key else "", **values}, self._at - begin)

    def _fields(self, begin: int) -> Iterator[tuple[str, str]]:
        """Yields the fields of the entry that begins at `begin`, up to its closing bracket."""
        while True:
            match = _FIELD.match(self._text, self._at)
            if match is None:
                break
            self._at = match.end()
            yield match[1].lower(), self._value(begin)
            self._at = self._past(self._at, " \t\n,")
        self._at = self._past(self._at, " \t\n,")
        if self._text[self._at : self._at + 1] not in ("}", ")"):
            raise self._damage(begin)
        self._at += 1

    def _value(self, begin: int) -> str:
        parts: list[str] = []
        while True:
            parts.append(self._part(begin))
            at = self._past(self._at, " \t\n")
            if self._text[at : at + 1] != "#":
                return "".join(parts).strip()
            self._at = self._past(at + 1, " \t\n")

    def _part(self, begin: int) -> str:
        first = self._text[self._at : self._at + 1]
        if first == "{":
            end = self._closing(self._at + 1, _BRACE, "}", begin)
        elif first == '"':
            end = self._closing(self._at + 1, _QUOTE, '"', begin)
        else:
            match = _BARE.match(self._text, self._at)
            if match is None:
                raise self._damage(begin)
            self._at = match.end()
            return self._strings.get(match[0].lower(), match[0])
        text = self._text[self._at + 1 : end]
        self._at = end + 1
        return re.sub(r"\s*\n\s*", " ", text)

    def _closing(self, at: int, pattern: re.Pattern[str], closing: str, begin: int) -> int:
        """Returns the position of the bracket or quote that closes the value. Brackets inside the value must match."""
        depth = 0
        for match in pattern.finditer(self._text, at):
            if match[0] == closing and depth == 0:
                return match.start()
            depth += {"{": 1, "}": -1}.get(match[0], 0)
        raise self._damage(begin)

    def _skip(self, match: re.Match[str]) -> None:
        if match[2] == "{":
            self._at = self._closing(match.end(), _BRACE, "}", match.start()) + 1

    def _past(self, at: int, passed: str) -> int:
        while self._text[at : at + 1] and self._text[at] in passed:
            at += 1
        return at

    def _line(self, at: int) -> int:
        return self._text.count("\n", 0, at) + 1

    def _damage(self, begin: int) -> SourceDamagedError:
        return damaged(self._name, f"the entry at line {self._line(begin)} is truncated or not BibTeX")


def detect(source: Source) -> list[FormatClaim]:
    """Claims the BibTeX files."""
    return claim_all(source, BibTeX(), "BibTeX entries", kind="tabular")
