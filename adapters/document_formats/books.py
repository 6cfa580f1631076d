"""Reads EPUB books: one chapter for each row, in the order of reading, with the title, author and language of the book."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.document_formats.html_text import page_text
from choline_data.adapters.document_formats.whole_documents import (
    MAX_DOCUMENT_BYTES,
    Rows,
    ZippedParts,
    document_chunks,
)
from choline_data.adapters.reading.encodings import decoded
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.reading.rows import file_shards
from choline_data.adapters.text_records.line_records import claim_all
from choline_data.adapters.text_records.xml_tree import xml_tree

_TYPES = {
    "text": pa.large_string(), "chapter": pa.string(), "number": pa.int64(), "title": pa.string(), "author": pa.string(),
    "language": pa.string(), "identifier": pa.string(), "part": pa.string(),
}  # fmt: skip


@dataclass(frozen=True)
class Books:
    """Reads books without copy protection. A book above `max_bytes` is rejected. Chapters without text are left out."""

    max_bytes: int = MAX_DOCUMENT_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns shards of books, in order of name."""
        return file_shards(in_order(files))

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the chapters from number `start` on."""
        return document_chunks(shard, start, _rows, _TYPES, self.max_bytes)


ADAPTER = Books


def _rows(data: bytes, file: SourceFile) -> Rows:
    parts = ZippedParts(data)
    container = xml_tree(parts.part("META-INF/container.xml"))
    roots = [e.attributes.get("full-path", "") for e in container.all_named("rootfile")]
    if not roots:
        raise ValueError("it names no package document")
    package = xml_tree(parts.part(roots[0]))
    about = package.first("metadata")
    values = {
        name: "; ".join(e.words() for e in about.children(name)) if about is not None else ""
        for name in ("title", "creator", "language", "identifier")
    }
    items = {e.attributes.get("id"): e.attributes for e in package.all_named("item")}
    spine = [items.get(e.attributes.get("idref"), {}) for e in package.all_named("itemref")]
    protected = _protected(parts)
    number = 0
    for item in spine:
        if not item.get("href") or "nav" in item.get("properties", "").split():
            continue
        path = posixpath.normpath(posixpath.join(posixpath.dirname(roots[0]), unquote(item["href"])))
        if path in protected:
            raise ValueError("the book is copy-protected")
        page = page_text(decoded(parts.part(path), path)[0])
        if page.text:
            yield {
                "text": page.text, "chapter": page.title or None, "number": number, "title": values["title"] or None,
                "author": values["creator"] or None, "language": values["language"] or None,
                "identifier": values["identifier"] or None, "part": path,
            }  # fmt: skip
            number += 1
    if not number:
        raise ValueError("it has no chapter with text")


def _protected(parts: ZippedParts) -> set[str]:
    """Returns the parts that are encrypted."""
    if "META-INF/encryption.xml" not in parts:
        return set()
    found = xml_tree(parts.part("META-INF/encryption.xml"))
    return {unquote(e.attributes.get("URI", "")) for e in found.all_named("CipherReference")}


def detect(source: Source) -> list[FormatClaim]:
    """Claims the books."""
    return claim_all(source, Books(), "chapters of EPUB books", kind="text")
