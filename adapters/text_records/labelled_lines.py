"""Reads fastText training files: one text for each row, with the labels that stand before it as `__label__NAME`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import TextRecord, claim_all, lines_of, record_chunks, shards_of

_TYPES = {"text": pa.large_string(), "label": pa.string(), "labels": pa.list_(pa.string())}


@dataclass(frozen=True)
class FastText:
    """Reads lines with labels. A line without a label is rejected. `label` is the first label, `labels` holds all of them."""

    prefix: str = "__label__"
    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the lines from number `start` on. Blank lines are not counted."""
        return record_chunks(self._records(shard), shard, start, _TYPES)

    def _records(self, shard: Shard) -> Iterator[TextRecord]:
        labels_at_start = re.compile(rf"\s*((?:{re.escape(self.prefix)}\S+[\s,]*)+)")
        for number, line in enumerate(lines_of(shard, self.encoding), 1):
            if not line.strip():
                continue
            match = labels_at_start.match(line)
            if match is None:
                yield TextRecord(fault=f"line {number} does not begin with {self.prefix}")
                continue
            labels = [word.strip(",").removeprefix(self.prefix) for word in match[1].split()]
            values = {"text": line[match.end() :].strip(), "label": labels[0], "labels": labels}
            yield TextRecord(values, len(line))


ADAPTER = FastText


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of fastText."""
    return claim_all(source, FastText(), "lines with __label__", kind="classification")
