"""Reads lines of Python dicts, as `repr` writes them: one dict for each row. Nothing is run: only literals are parsed.

A tuple or a set becomes a list. A line with another value, or with brackets nested above 100 levels, is rejected.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import claim_all, lines_of, rows_in_chunks, shards_of

MAX_DEPTH = 100
_PARTS = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[\[\]{}()]""")


@dataclass(frozen=True)
class PythonLiterals:
    """Reads dicts. A line that is not a dict of literals with names as keys is rejected."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the dicts from number `start` on."""
        return rows_in_chunks(_rows(lines_of(shard, self.encoding)), shard, start)


ADAPTER = PythonLiterals


def _rows(lines: Iterator[str]) -> Iterator[object]:
    """Yields the dict of each line. Yields a line that is not a dict as text, which is refused as a row."""
    for line in lines:
        if not line.strip():
            continue
        try:
            yield _row(line.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            yield line


def _row(line: str) -> dict[str, Any]:
    depth = 0
    for part in _PARTS.finditer(line):
        depth += 1 if part[0] in "[{(" else -1 if part[0] in "]})" else 0
        if depth > MAX_DEPTH:
            raise ValueError(f"nested above {MAX_DEPTH} levels")
    value = _plain(ast.literal_eval(line))
    if not isinstance(value, dict):
        raise ValueError("not a dict")
    return value


def _plain(value: Any) -> Any:
    """Returns a literal in the types of JSON."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a key that is no text")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(_plain, value), key=repr)
    if isinstance(value, (complex, bytes)) or value is ... or (isinstance(value, float) and not isfinite(value)):
        raise ValueError("a value that has no column type")
    return value


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of Python dicts."""
    return claim_all(source, PythonLiterals(), "lines of Python dicts")
