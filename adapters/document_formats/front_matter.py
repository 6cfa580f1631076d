"""Reads Markdown with front matter: one document for each row, with a column for each field of the block in YAML or TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.document_formats.whole_documents import Rows, document_chunks
from choline_data.adapters.reading import io
from choline_data.adapters.reading.encodings import decoded
from choline_data.adapters.reading.names import in_order, is_about
from choline_data.adapters.reading.rows import as_json, file_shards
from choline_data.places.pins import without_pin
from choline_data.places.yaml_safe import safe_load

EXTENSIONS = frozenset({"md", "markdown", "mdx", "qmd", "rmd"})
LOOKED_FILES = 64
_BLOCK = re.compile(r"\A(---|\+\+\+)[ \t]*\r?\n(.*?)^(?:\1|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?(?:---[ \t]*\r?\n(?:#[^\n]*\n)*[\w\"'-][^\n:]*:(?:\s|$)|\+\+\+[ \t]*\r?\n)")


@dataclass(frozen=True)
class FrontMatter:
    """Reads documents. A document whose block cannot be parsed, or that is above `max_bytes`, is rejected."""

    max_bytes: int = MAX_ROW_BYTES
    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns shards of documents, in order of name."""
        return file_shards(in_order(files))

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the documents from number `start` on."""
        return document_chunks(shard, start, self._rows, {"text": pa.large_string()}, self.max_bytes)

    def _rows(self, data: bytes, file: SourceFile) -> Rows:
        text, _ = decoded(data, file.name, self.encoding, without_pin(file.path)[1].charset)
        block = _BLOCK.match(text)
        fields = _fields(block[1], block[2], file.name) if block is not None else None
        if block is None or fields is None:
            yield {"text": text, "path": file.name}
            return
        named = {(f"field.{k}" if k in ("text", "path") else k): as_json(v) for k, v in fields.items()}
        yield {"text": text[block.end() :].lstrip("\r\n"), "path": file.name, **named}


ADAPTER = FrontMatter


def _fields(mark: str, block: str, name: str) -> dict[str, Any] | None:
    """Returns the fields of the block; None if it is not a mapping, as a text between two horizontal rules of Markdown."""
    if mark == "+++":
        return tomllib.loads(block)
    fields = safe_load(block, name)
    return {str(k): v for k, v in fields.items()} if isinstance(fields, dict) else None


def detect(source: Source) -> list[FormatClaim]:
    """Claims the Markdown of the source if most of its files begin with front matter."""
    files = tuple(
        f for f in source.files if io.extension(f.name) in EXTENSIONS and (not is_about(f.name) or not source.folder)
    )
    looked = files[:LOOKED_FILES]
    begun = sum(_BEGINS.match(io.head(f.path, 4 << 10)) is not None for f in looked)
    return (
        [FormatClaim(FrontMatter(), files, 0.9, "Markdown with front matter", kind="text")]
        if begun and 2 * begun >= len(looked)
        else []
    )
