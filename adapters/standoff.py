"""Reads texts with BRAT annotations beside them (`a.txt` and `a.ann`): one text for each row, with lists of its annotations.

Entities have the offsets of their characters, which are checked against the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.document_formats.whole_documents import Rows, document_chunks
from choline_data.adapters.reading import io
from choline_data.adapters.reading.encodings import decoded
from choline_data.adapters.reading.names import in_order

_SPAN = pa.struct([("start", pa.int64()), ("end", pa.int64())])
_ENTITY = pa.struct([("id", pa.string()), ("type", pa.string()), ("spans", pa.list_(_SPAN)), ("text", pa.string())])
_TYPES = {
    "text": pa.large_string(),
    "entities": pa.list_(_ENTITY),
    "annotations": pa.list_(pa.string()),
    "path": pa.string(),
}
_LINE = re.compile(r"T\d+\t\S+ \d+ \d+(;\d+ \d+)*\t|[REAMN#]\d*\t\S|\*\t\S")


@dataclass(frozen=True)
class Standoff:
    """Reads pairs of files. A pair whose offsets do not fit its text is rejected."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns a shard for each pair, in order of name."""
        by_stem: dict[str, list[SourceFile]] = {}
        for file in in_order(files):
            by_stem.setdefault(file.name.rpartition(".")[0], []).append(file)
        pairs = [sorted(pair, key=lambda f: f.name.endswith(".ann")) for pair in by_stem.values() if len(pair) == 2]
        return [Shard(pair[0].path, pair[0].name, files=tuple(pair), size=sum(f.size for f in pair)) for pair in pairs]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the text of the pair, unless `start` is after it."""
        text, marks = shard.files
        only = Shard(text.path, text.name, files=(text,))

        def rows(data: bytes, file: SourceFile) -> Rows:
            said = decoded(data, file.name, self.encoding)[0].replace("\r\n", "\n")
            yield {**_annotated(said, _decoded_marks(marks, self.encoding)), "path": file.name}

        return document_chunks(only, start, rows, _TYPES, MAX_ROW_BYTES)


ADAPTER = Standoff


def _decoded_marks(file: SourceFile, encoding: str) -> str:
    return decoded(io.content(file.path, file.name, limit=MAX_ROW_BYTES), file.name, encoding)[0]


def _annotated(text: str, marks: str) -> dict[str, Any]:
    entities, others = [], []
    for line in marks.splitlines():
        if not line.strip():
            continue
        if not line.startswith("T"):
            others.append(line)
            continue
        name, place, covered_text = (*line.split("\t"), "", "")[:3]
        kind, _, spans = place.partition(" ")
        places = [tuple(map(int, span.split())) for span in spans.split(";")]
        found = " ".join(text[start:end] for start, end in places)
        if found.split() != covered_text.split():
            raise ValueError(f"{name} marks {covered_text[:40]!r}, but its offsets refer to {found[:40]!r}")
        entities.append(
            {"id": name, "type": kind, "spans": [{"start": s, "end": e} for s, e in places], "text": covered_text}
        )
    return {"text": text, "entities": entities, "annotations": others}


def detect(source: Source) -> list[FormatClaim]:
    """Claims texts that have a file of annotations with the same name beside them."""
    marks = {f.name.rpartition(".")[0]: f for f in source.files if io.extension(f.name) == "ann"}
    if not marks:
        return []
    texts = [f for f in source.files if io.extension(f.name) == "txt" and f.name.rpartition(".")[0] in marks]
    pairs = [(t, marks[t.name.rpartition(".")[0]]) for t in texts]
    first = [io.head(a.path, 4 << 10).decode("utf-8", "replace").partition("\n")[0] for _, a in pairs[:16]]
    if not pairs or not any(first) or not all(_LINE.match(line) for line in first if line):
        return []
    files = tuple(f for pair in pairs for f in pair)
    described = tuple((f.name, "it configures brat") for f in source.files if io.extension(f.name) == "conf")
    return [
        FormatClaim(
            Standoff(), files, 1.0, f"{len(pairs)} texts with BRAT annotations", kind="text", described=described
        )
    ]
