"""Reads CoNLL-U treebanks: one sentence for each row, with the ten columns as lists.

Comments, document ids and paragraph ids are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.names import in_order, is_about
from choline_data.adapters.reading.rows import SourceRows
from choline_data.adapters.text import Text

COLUMNS = ("ids", "tokens", "lemmas", "upos", "xpos", "feats", "heads", "deprels", "deps", "misc")
_TYPES: dict[str, pa.DataType] = {
    "text": pa.large_string(),
    "sent_id": pa.string(),
    "document": pa.string(),
    "paragraph": pa.string(),
    **dict.fromkeys(COLUMNS, pa.list_(pa.string())),
    "comments": pa.list_(pa.string()),
}


@dataclass(frozen=True)
class ConllU:
    """Reads one sentence for each row. A sentence is rejected if a line does not have ten columns."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file.

        A file is not divided, because a sentence belongs to the last document named before it.
        """
        return [Shard(f.path, f.name, size=f.size) for f in in_order(files)]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the sentences from number `start` on."""
        rows = SourceRows(shard.origin, _TYPES)
        number, known = 0, {"document": None, "paragraph": None}
        for blocks, bad in Text("paragraph")._units(shard):
            first = number
            for number, block in enumerate(blocks, first):
                values, fault = _sentence(block, known)
                fault = bad.get(number, fault)
                if number >= start:
                    if rows.full(len(block) * 4):
                        yield from rows.take()
                    if fault:
                        rows.reject(number, fault)
                    else:
                        rows.add(number, values, len(block) * 4)
            number = first + len(blocks)
        yield from rows.take()


ADAPTER = ConllU


def _sentence(block: str, known: dict[str, Any]) -> tuple[dict[str, Any], str]:
    lines = block.splitlines()
    comments = [line[1:].strip() for line in lines if line.startswith("#")]
    values: dict[str, Any] = {"comments": []}
    for comment in comments:
        key, _, value = (part.strip() for part in comment.partition("="))
        if key in ("newdoc id", "newdoc"):
            known["document"], known["paragraph"] = value or None, None
        elif key in ("newpar id", "newpar"):
            known["paragraph"] = value or None
        elif key in ("text", "sent_id"):
            values[key] = value
            continue
        values["comments"].append(comment)
    cells = [line.split("\t") for line in lines if line and not line.startswith("#")]
    if not cells or any(len(row) != len(COLUMNS) for row in cells):
        return {}, "a line has other than ten columns"
    values.update(known)
    values.update(zip(COLUMNS, map(list, zip(*cells, strict=True)), strict=True))
    if "text" not in values:
        values["text"] = " ".join(row[1] for row in cells if row[0].isdecimal())
    return values, ""


def detect(source: Source) -> list[FormatClaim]:
    """Claims `.conllu` files, and `.conll` files with ten columns on each line."""
    treebanks = [f for f in source.files if _named(f.name) or (f.name.endswith(".conll") and _looks(f))]
    if not treebanks:
        return []
    passed = tuple((f.name, "tells about the data") for f in source.files if is_about(f.name))
    return [
        FormatClaim(
            ConllU(), tuple(treebanks), 1.0, f"{len(treebanks)} CoNLL-U file(s)", kind="text", passed_over=passed
        )
    ]


def _named(name: str) -> bool:
    return any(name.lower().endswith(".conllu" + packed) for packed in ("", ".gz", ".zst", ".xz", ".bz2"))


def _looks(file: SourceFile) -> bool:
    lines = [line for line in io.head(file.path, 8 << 10).split(b"\n")[:-1] if line and not line.startswith(b"#")]
    return bool(lines) and all(line.count(b"\t") == 9 for line in lines)
