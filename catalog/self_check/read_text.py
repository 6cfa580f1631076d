"""Reads a few rows of JSON and plain text for the self-check."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from choline_data.adapters.base import Shard, SourceFile
from choline_data.catalog.self_check.source_files import HEAD_BYTES, SourceFiles
from choline_data.catalog.self_check.source_row import ROWS, SourceRow, encoding_of, ends

DOCUMENT_BYTES = 16 << 20
_SHIFTS = re.compile(rb"\x1b|~\{")  # encodings that write other characters with ASCII bytes: ISO-2022, HZ


def json_lines(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    if encoding_of(adapter, shard) != "utf-8-sig":
        return
    with files.opened(shard.path) as file:
        if shard.start:
            file.seek(shard.start - 1)
            file.readline()
        lines = (line for line in iter(lambda: file.readline(HEAD_BYTES), b"") if line.strip())
        for at, line in enumerate(islice(lines, ROWS)):
            text = line.decode("utf-8-sig" if at == 0 and not shard.start else "utf-8")
            yield from _object(at, json.loads(text, strict=False))
    if shard.end < 0 and (last := files.last_line(shard.path)):
        yield from _object(-1, json.loads(last.decode(), strict=False))


def _object(at: int, value: Any) -> Iterator[SourceRow]:
    if isinstance(value, dict):
        yield SourceRow(at, at, value)


def json_document(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    data, whole = files.head(shard.path, DOCUMENT_BYTES)
    if not whole:
        return
    document = json.loads(data.decode(encoding_of(adapter, shard)))
    lists = [value for value in document.values() if isinstance(value, list)] if isinstance(document, dict) else []
    if shard.member:
        document = document[shard.member]
    rows = lists[0] if len(lists) == 1 and not any(isinstance(v, dict) for v in document.values()) else document
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return
    if rows and all(map(_has_questions, rows)):
        rows = list(_questions(rows))
    if len(rows) > 1:
        for at in ends(len(rows)):
            yield SourceRow(at, at, rows[at])


def _has_questions(article: dict[str, Any]) -> bool:
    """Returns whether this is an article in the layout of SQuAD. The paragraphs of other articles may be plain texts."""
    paragraphs = article.get("paragraphs")
    return isinstance(paragraphs, list) and all(
        isinstance(paragraph, dict)
        and "context" in paragraph
        and isinstance(paragraph.get("qas"), list)
        and all(isinstance(question, dict) for question in paragraph["qas"])
        for paragraph in paragraphs
    )


def _questions(articles: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the questions of articles in the layout of SQuAD, each with the text of its paragraph."""
    for article in articles:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield {"context": paragraph["context"], **question}


def text(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    if adapter.unit == "document":
        text_files = shard.files or (SourceFile(shard.path, shard.name),)
        for at in ends(len(text_files), 2):
            data, whole = files.head(text_files[at].path)
            if whole and not _SHIFTS.search(data):
                content = data.decode(encoding_of(adapter, shard))
                yield SourceRow(at, at, {"text": content, "path": text_files[at].name})
        return
    if adapter.unit == "line":
        data, whole = files.head(shard.path)
        content = data.decode(encoding_of(adapter, shard), "strict" if whole else "ignore")
        lines = [line for line in content.split("\n") if line.strip()]
        for at, line in enumerate(lines[:ROWS]):
            yield SourceRow(at, at, {"text": line.removesuffix("\r")})
