"""Reads pages of HTML: one page for each row, with its title, its main text and its source.

Scripts and styles are dropped from the text, as are navigation, headers and footers. `source` holds the whole page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.document_formats.html_text import page_text
from choline_data.adapters.document_formats.whole_documents import Rows, document_chunks
from choline_data.adapters.reading import io
from choline_data.adapters.reading.encodings import decoded
from choline_data.adapters.reading.known.identity import MARKUP
from choline_data.adapters.reading.names import in_order, is_about
from choline_data.adapters.reading.rows import file_shards
from choline_data.places.pins import without_pin

EXTENSIONS = frozenset({"html", "htm", "xhtml"})
_TYPES = {"text": pa.large_string(), "title": pa.string(), "source": pa.large_string()}


@dataclass(frozen=True)
class HtmlPages:
    """Reads pages. A page above `max_bytes` is rejected. `encoding` overrides the detected encoding."""

    max_bytes: int = MAX_ROW_BYTES
    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns shards of pages, in order of name."""
        return file_shards(in_order(files))

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the pages from number `start` on."""
        return document_chunks(shard, start, self._rows, _TYPES, self.max_bytes)

    def _rows(self, data: bytes, file: SourceFile) -> Rows:
        source, _ = decoded(data, file.name, self.encoding, without_pin(file.path)[1].charset)
        page = page_text(source)
        about = {name: text for name, text in page.about.items() if text}
        yield {
            "text": page.text, "title": page.title or None, "language": page.language or None, "url": page.url or None,
            **about, "source": source,
        }  # fmt: skip


ADAPTER = HtmlPages


def detect(source: Source) -> list[FormatClaim]:
    """Claims the pages. Pages among other texts are left to the format `text`, which reads all of them as they are."""
    data = [f for f in source.files if not is_about(f.name) or not source.folder]
    pages = tuple(f for f in data if io.extension(f.name) in EXTENSIONS)
    others = [f for f in data if io.extension(f.name) in (MARKUP | {"txt", "text"}) - EXTENSIONS]
    return [FormatClaim(HtmlPages(), pages, 0.9, "pages of HTML", kind="text")] if pages and not others else []
