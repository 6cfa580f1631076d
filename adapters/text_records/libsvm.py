"""Reads LIBSVM and SVMlight: one example for each row, with its label and its features as lists of indices and values.

Indices are kept as they stand in the file, which usually counts them from 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import TextRecord, claim_all, lines_of, record_chunks, shards_of

_TYPES = {
    "label": pa.float64(),
    "labels": pa.list_(pa.float64()),
    "query": pa.string(),
    "indices": pa.list_(pa.int64()),
    "values": pa.list_(pa.float64()),
    "comment": pa.string(),
}
_QUERY = re.compile(r"qid:(\S+)\s*")


@dataclass(frozen=True)
class LibSvm:
    """Reads examples. An example that cannot be parsed is rejected with its line number."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the examples from number `start` on. Blank lines and comment lines are not counted."""
        return record_chunks(self._records(shard), shard, start, _TYPES)

    def _records(self, shard: Shard) -> Iterator[TextRecord]:
        for number, line in enumerate(lines_of(shard, self.encoding), 1):
            data, _, comment = line.partition("#")
            if not data.strip():
                continue
            try:
                yield TextRecord(_example(data, comment.strip()), len(line) * 2)
            except ValueError as error:
                yield TextRecord(fault=f"line {number}: {error}")


ADAPTER = LibSvm


def _example(data: str, comment: str) -> dict[str, object]:
    head, _, features = data.strip().partition(" ")
    values: dict[str, object] = {"label": None, "labels": None, "query": None, "comment": comment or None}
    if ":" in head:  # an example without a label, as in the test files of competitions
        features = data
    elif "," in head:
        values["labels"] = [float(label) for label in head.split(",") if label]
    else:
        values["label"] = float(head)
    query = _QUERY.match(features.strip())
    if query is not None:
        values["query"], features = query[1], features.strip()[query.end() :]
    pairs = [pair.split(":") for pair in features.split()]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("a feature is not of the form index:value")
    values["indices"] = [int(index) for index, _ in pairs]
    values["values"] = [float(value) for _, value in pairs]
    return values


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of LIBSVM."""
    return claim_all(source, LibSvm(), "LIBSVM examples", kind="tabular")
