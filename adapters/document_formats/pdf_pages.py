"""Reads PDF with pypdf: one page for each row, with its text, and the title and the author of the document."""

from __future__ import annotations

import io as stdio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.document_formats.whole_documents import MAX_DOCUMENT_BYTES, Rows, document_chunks
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.reading.rows import file_shards
from choline_data.adapters.text_records.line_records import claim_all
from choline_data.errors import MissingDependencyError, one_line

_TYPES = {
    "text": pa.large_string(), "page": pa.int64(), "pages": pa.int64(), "title": pa.string(), "author": pa.string(),
}  # fmt: skip


@dataclass(frozen=True)
class PdfPages:
    """Reads pages, which count from 1. A document with a password, or without any text, is rejected."""

    max_bytes: int = MAX_DOCUMENT_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns shards of documents, in order of name."""
        _library()
        return file_shards(in_order(files))

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the pages from number `start` on."""
        return document_chunks(shard, start, _rows, _TYPES, self.max_bytes)


ADAPTER = PdfPages


def _library() -> Any:
    try:
        import pypdf
    except ModuleNotFoundError as error:
        raise MissingDependencyError("documents", "Reading PDF") from error
    return pypdf


def _rows(data: bytes, file: SourceFile) -> Rows:
    pypdf = _library()
    try:
        reader = pypdf.PdfReader(stdio.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise ValueError("it has a password")
        texts = [page.extract_text() for page in reader.pages]
        about = reader.metadata
        title, author = (about.title, about.author) if about is not None else (None, None)
    except ValueError:
        raise
    except MissingDependencyError:
        raise
    except Exception as error:  # the library raises errors of many kinds for damaged files
        raise ValueError(f"not readable as PDF: {type(error).__name__}: {one_line(error, 120)}") from error
    if not any(text.strip() for text in texts):
        raise ValueError(
            "its pages have no text, only pictures; a program for text recognition, such as ocrmypdf, can add the text"
        )
    for number, text in enumerate(texts, 1):
        if len(text) > MAX_ROW_BYTES:
            raise ValueError(f"page {number} has more than {MAX_ROW_BYTES:,} characters")
        clean = text.encode("utf-8", "replace").decode()  # replaces half surrogate pairs, which are not characters
        yield {"text": clean, "page": number, "pages": len(texts), "title": _word(title), "author": _word(author)}


def _word(value: object) -> str | None:
    return str(value) if value else None


def detect(source: Source) -> list[FormatClaim]:
    """Claims the PDF files."""
    return claim_all(source, PdfPages(), "pages of PDF", kind="text")
