"""Reads N-Triples and N-Quads: one statement for each row, with its subject, predicate and object, and the graph if there is one.

`object_kind` is iri, blank or literal. A literal has its text as `object`, and its datatype and language beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import TextRecord, claim_all, lines_of, record_chunks, shards_of

_COLUMNS = ("subject", "predicate", "object", "object_kind", "datatype", "object_language", "graph")
_TYPES = {name: pa.string() for name in _COLUMNS} | {"object": pa.large_string()}
_NODE = r"<([^<>\"{}|^`\s]*)>|(_:\S+?)"
_STATEMENT = re.compile(
    rf'\s*(?:{_NODE})\s*<([^<>\s]*)>\s*(?:{_NODE}|"((?:[^"\\\n]|\\.)*)"(?:\^\^<([^<>\s]*)>|@([A-Za-z]+(?:-[A-Za-z0-9]+)*))?)'
    rf"\s*(?:{_NODE})?\s*\.\s*(?:#.*)?$"
)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_CHARACTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


@dataclass(frozen=True)
class Triples:
    """Reads statements. A line that is not a statement is rejected. Comments and blank lines are not counted."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the statements from number `start` on."""
        return record_chunks(_records(lines_of(shard, self.encoding)), shard, start, _TYPES)


ADAPTER = Triples


def _records(lines: Iterator[str]) -> Iterator[TextRecord]:
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _STATEMENT.match(line)
        try:
            if match is None:
                raise ValueError("not a statement")
            yield TextRecord(_values(match), len(line) * 2)
        except (ValueError, OverflowError) as error:
            yield TextRecord(fault=f"line {number}: {error}")


def _values(match: re.Match[str]) -> dict[str, str | None]:
    iri, blank, predicate, other, other_blank, literal, datatype, language, graph, graph_blank = match.groups()
    kind = "iri" if other is not None else "blank" if other_blank is not None else "literal"
    values = (iri if iri is not None else blank, predicate, other if other is not None else other_blank or literal, kind,
              datatype, language, graph if graph is not None else graph_blank)  # fmt: skip
    return {name: None if v is None else _unescaped(v) for name, v in zip(_COLUMNS, values, strict=True)}


def _unescaped(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        code = match[1] or match[2]
        return chr(int(code, 16)) if code else _CHARACTERS.get(match[3], match[3])

    return _ESCAPE.sub(character, text) if "\\" in text else text


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of statements."""
    return claim_all(source, Triples(), "statements of RDF", kind="tabular")
