"""Reads Word documents (DOCX): one document for each row, with its title, its author and its text.

Each paragraph is a line, and each row of a table is a line with tabs. Deleted text and codes of fields are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.document_formats.whole_documents import (
    MAX_DOCUMENT_BYTES,
    Rows,
    ZippedParts,
    document_chunks,
)
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.reading.rows import file_shards
from choline_data.adapters.text_records.line_records import claim_all
from choline_data.adapters.text_records.xml_elements import XmlElement
from choline_data.adapters.text_records.xml_tree import xml_tree

_TYPES = {
    "text": pa.large_string(), "title": pa.string(), "author": pa.string(), "created": pa.string(),
    "notes": pa.list_(pa.string()), "pictures": pa.int64(),
}  # fmt: skip
_DROPPED = frozenset({"del", "moveFrom", "instrText", "delText", "Fallback", "pPr", "rPr"})
_CHARACTERS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "\u2011"}


@dataclass(frozen=True)
class WordDocuments:
    """Reads documents. A document above `max_bytes` is rejected."""

    max_bytes: int = MAX_DOCUMENT_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns shards of documents, in order of name."""
        return file_shards(in_order(files))

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the documents from number `start` on."""
        return document_chunks(shard, start, _rows, _TYPES, self.max_bytes)


ADAPTER = WordDocuments


def _rows(data: bytes, file: SourceFile) -> Rows:
    parts = ZippedParts(data)
    root = xml_tree(parts.part("word/document.xml"))
    about = xml_tree(parts.part("docProps/core.xml")) if "docProps/core.xml" in parts else XmlElement("", {})
    values = {name: found.words() or None for name in ("title", "creator", "created") if (found := about.first(name))}
    notes = [
        text
        for name in ("footnotes", "endnotes")
        if f"word/{name}.xml" in parts
        for note in xml_tree(parts.part(f"word/{name}.xml")).children()
        if (text := "\n".join(_lines(note)).strip())
    ]
    yield {
        "text": "\n".join(_lines(root)).strip(),
        "title": values.get("title"),
        "author": values.get("creator"),
        "created": values.get("created"),
        "notes": notes,
        "pictures": sum(1 for _ in root.all_named("drawing", "pict")),
    }


def _lines(element: XmlElement) -> Iterator[str]:
    """Yields the paragraphs and the rows of tables."""
    for child in element.children():
        if child.name == "p":
            yield _text(child)
        elif child.name == "tr":
            yield "\t".join(" ".join(line for line in _lines(cell) if line) for cell in child.all_named("tc"))
        elif child.name not in _DROPPED:
            yield from _lines(child)


def _text(element: XmlElement) -> str:
    pieces = []
    for child in element.children():
        if child.name == "t":
            pieces.append("".join(part for part in child.parts if isinstance(part, str)))
        elif child.name in _CHARACTERS:
            pieces.append(_CHARACTERS[child.name])
        elif child.name == "p":  # the text of a box within the paragraph
            pieces.append("\n" + _text(child))
        elif child.name not in _DROPPED:
            pieces.append(_text(child))
    return "".join(pieces)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the documents."""
    return claim_all(source, WordDocuments(), "Word documents", kind="text")
