"""Reads Jupyter notebooks: one cell for each row, with its kind (code, markdown or raw), its text and its outputs as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.document_formats.whole_documents import Rows, document_chunks
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.reading.records import checked_loads
from choline_data.adapters.reading.rows import file_shards
from choline_data.adapters.text_records.line_records import claim_all

_TYPES = {
    "text": pa.large_string(),
    "cell": pa.string(),
    "number": pa.int64(),
    "outputs": pa.list_(pa.large_string()),
    "output_types": pa.list_(pa.string()),
    "execution_count": pa.int64(),
    "kernel": pa.string(),
    "tags": pa.list_(pa.string()),
}


@dataclass(frozen=True)
class Notebooks:
    """Reads notebooks of the versions 3 and 4. A notebook above `max_bytes` is rejected.

    Pictures among the outputs are not kept; `output_types` says that they were there.
    """

    max_bytes: int = 4 * MAX_ROW_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns shards of notebooks, in order of name."""
        return file_shards(in_order(files))

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the cells from number `start` on."""
        return document_chunks(shard, start, _rows, _TYPES, self.max_bytes)


ADAPTER = Notebooks


def _rows(data: bytes, file: SourceFile) -> Rows:
    book = checked_loads(data.removeprefix(b"\xef\xbb\xbf"))
    if not isinstance(book, dict):
        raise ValueError("not a notebook")
    sheets = [book] if isinstance(book.get("cells"), list) else book.get("worksheets")
    if not isinstance(sheets, list) or not all(
        isinstance(s, dict) and isinstance(s.get("cells"), list) for s in sheets
    ):
        raise ValueError("a notebook without cells")
    about = _object(book.get("metadata"))
    kernels = (about.get(key) for key in ("language_info", "kernelspec"))
    kernel = next((k["name"] for k in kernels if isinstance(k, dict) and isinstance(k.get("name"), str)), None)
    for number, cell in enumerate(cell for sheet in sheets for cell in sheet["cells"]):
        if not isinstance(cell, dict):
            raise ValueError(f"cell {number} is not an object")
        yield _row(cell, number, kernel)


def _row(cell: dict[str, Any], number: int, kernel: str | None) -> dict[str, Any]:
    kind = str(cell.get("cell_type"))
    text = _joined(cell.get("source", cell.get("input", "")))
    if kind == "heading":  # version 3
        kind, text = "markdown", f"{'#' * int(cell.get('level', 1))} {text}"
    outputs = [output for output in cell.get("outputs") or [] if isinstance(output, dict)]
    count = cell.get("execution_count", cell.get("prompt_number"))
    tags = _object(cell.get("metadata")).get("tags")
    return {
        "text": text,
        "cell": kind,
        "number": number,
        "outputs": [text for text in map(_output, outputs) if text] if kind == "code" else None,
        "output_types": sorted({name for output in outputs for name in _types(output)}) if kind == "code" else None,
        "execution_count": count if isinstance(count, int) else None,
        "kernel": kernel,
        "tags": [str(tag) for tag in tags] if isinstance(tags, list) else None,
    }


def _joined(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


def _output(output: dict[str, Any]) -> str:
    """Returns the text of an output. "" if it has none."""
    if "ename" in output:
        return f"{output['ename']}: {output.get('evalue', '')}"
    data = _object(output.get("data"))
    return _joined(data.get("text/plain", output.get("text", "")))


def _types(output: dict[str, Any]) -> list[str]:
    return [str(name) for name in _object(output.get("data"))] or [str(output.get("output_type"))]


def _object(value: Any) -> dict[str, Any]:
    """Returns the value if it is an object, or else an empty object."""
    return value if isinstance(value, dict) else {}


def detect(source: Source) -> list[FormatClaim]:
    """Claims the notebooks."""
    return claim_all(source, Notebooks(), "cells of notebooks", kind="text")
