"""Reads CoNLL-2003 and similar: one sentence for each row, with a list for each column of the file.

A sentence ends at a blank line. A line `-DOCSTART-` begins a document; `document` counts them. Four columns are those of
CoNLL-2003 (tokens, pos_tags, chunk_tags, ner_tags), two are tokens and tags, otherwise the last column is `tags`. A first
column that counts the words of each sentence, as in GermEval, is `ids`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import (
    TextRecord,
    claim_all,
    lines_of,
    paragraphs,
    record_chunks,
    shards_of,
)

_TYPES = {"document": pa.int64()}


@dataclass(frozen=True)
class TaggedTokens:
    """Reads sentences of tagged tokens. A sentence whose lines differ in their number of columns is rejected."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the sentences from number `start` on."""
        return record_chunks(_records(shard, self.encoding), shard, start, _TYPES)


ADAPTER = TaggedTokens


def _records(shard: Shard, encoding: str) -> Iterator[TextRecord]:
    document = -1
    width = 0
    counted = False
    for block in paragraphs(lines_of(shard, encoding), shard.name):
        started = [line.startswith("-DOCSTART-") for line in block]
        document += sum(started)
        cells = [line.split("\t") if "\t" in line else line.split() for line, start in zip(block, started, strict=True)
                 if not start and not line.startswith(("# ", "#\t"))]  # fmt: skip
        if not cells:
            continue
        if not width:
            width = len(cells[0])
            counted = width > 2 and [row[0] for row in cells] == [str(n) for n in range(1, len(cells) + 1)]
        if any(len(row) != width for row in cells):
            yield TextRecord(fault=f"a line has another number of columns than {width}")
            continue
        columns = dict(zip(_names(width, counted), map(list, zip(*cells, strict=True)), strict=True))
        yield TextRecord({"document": document if document >= 0 else None, **columns}, sum(map(len, block)) * 2)


def _names(width: int, counted: bool) -> tuple[str, ...]:
    """Returns the names of the columns. With `counted`, the first one has the numbers of the words."""
    if counted:
        return ("ids", *_names(width - 1, False))
    if width == 4:
        return ("tokens", "pos_tags", "chunk_tags", "ner_tags")
    return ("tokens", *(f"column_{n}" for n in range(1, width - 1)), "tags")[:width]


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of tagged tokens."""
    return claim_all(source, TaggedTokens(), "tagged tokens", kind="annotation")
