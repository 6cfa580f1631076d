"""Reads JSON Lines: one object on each line. Only LF ends a line. If a key is duplicate, the last value counts.

Big uncompressed files are read in byte ranges. Blank lines are not rows. A line that is not an object, not JSON (RFC 8259),
not in the file's encoding, or larger than `max_row_bytes` becomes a reject with its line number. Integers beside floats in a
column stay integers. A key that a row lacks is read as null, so a missing key and an explicit null become the same.
If the first line is an array, each array is a row, and a first line of names is the header.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import orjson
import pyarrow as pa

from choline_data.adapters.base import (
    MAX_ROW_BYTES,
    FormatClaim,
    Reject,
    Shard,
    Source,
    SourceChunk,
    SourceFile,
    from_row,
)
from choline_data.adapters.reading import io, plain_files, records, text_files
from choline_data.adapters.reading.array_lines import array_lines_of
from choline_data.adapters.reading.batches import partitioned
from choline_data.adapters.reading.known.identity import without_impostors
from choline_data.errors import SourceDamagedError

SHARD_BYTES = 128 << 20
EXTENSIONS = frozenset({"jsonl", "ndjson", "jsonlines", "ldjson", "geojsonl", "geojsons"})
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class JsonLines:
    """Reads JSON Lines, compressed or not. `encoding` overrides the detected encoding.

    `header` says of lines that are arrays whether the first one names the columns: "1" or "none", or PATTERN=VALUE.
    """

    max_row_bytes: int = MAX_ROW_BYTES
    encoding: str = ""
    header: str = ""
    rare: ClassVar[float] = (
        # if at most this share of the lines has non-ASCII bytes, the file counts as UTF-8, and lines that are not UTF-8
        # are rejected
        0.1
    )

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file. An uncompressed file of 256 MiB or more is split into ranges of at least 128 MiB."""
        shards = []
        for file in files:
            if file.size < 2 * SHARD_BYTES or not _can_be_cut(io.raw_head(file.path, 64)):
                shards.append(Shard(file.path, file.name, size=file.size))
                continue
            count = file.size // SHARD_BYTES
            edges = [file.size * i // count for i in range(count)]
            shards += [
                Shard(file.path, file.name, start=start, end=end, size=(end if end >= 0 else file.size) - start)
                for start, end in zip(edges, [*edges[1:], -1], strict=True)
            ]
        return shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the shard's rows from row `start` on, with one column for each key. Row numbers count the non-blank lines."""
        return from_row(start, partitioned(self._chunks(shard), shard.name))

    def _chunks(self, shard: Shard) -> Iterator[SourceChunk]:
        row = line = 0
        where = f" from byte {shard.start:,}" if shard.start else ""
        encoding = shard.encoding or text_files.encoding_of(shard.path, shard.name, self.encoding, rare=1.0)
        blocks = io.line_blocks(
            shard.path,
            shard.name,
            start=shard.start,
            end=shard.end,
            max_row_bytes=self.max_row_bytes,
            recode=partial(text_files.utf8_pieces, name=shard.name, encoding=encoding),
        )
        arrays = array_lines_of(self._first_lines(shard, encoding), shard.name, self.header)
        for block in blocks:
            if isinstance(block, int):
                why = f"line {line + 1}{where}: {block:,} bytes; the limit (max_row_bytes) is {self.max_row_bytes:,}"
                yield SourceChunk(_NOTHING, np.empty(0, np.int64), (Reject(shard.origin, row, why),))
                row, line = row + 1, line + 1
                continue
            cut = _cut_line(block)
            block = block[: len(block) - len(cut)]
            if arrays is not None:
                block = arrays.as_objects(block, first=not (shard.start or line))
            parsed = list(records.records_of_lines(block))
            numbers = _line_numbers(block) if any(r.refused for r in parsed) else []
            yield from records.chunks(
                parsed,
                shard.origin,
                row,
                lambda place, why, numbers=numbers, line=line: f"line {line + numbers[place]}{where}: {why}",  # type: ignore[misc]
            )
            row += sum(r.batch.num_rows + len(r.refused) for r in parsed)
            line += records.line_count(block)
            if cut:
                raise SourceDamagedError(
                    f"{shard.name}: line {line + 1}{where} is truncated: the file ends inside of a record.",
                    remedy="Fetch it again, or remove the last line.",
                )

    def _first_lines(self, shard: Shard, encoding: str) -> bytes:
        """Returns the beginning of the file in UTF-8, if its first line is an array."""
        head = io.head(shard.path)
        if encoding not in text_files.UTF8:
            head = codecs.getincrementaldecoder(encoding)("replace").decode(head).encode("utf-8", "replace")
        return head if head.removeprefix(_BOM).lstrip()[:1] == b"[" else b""


ADAPTER = JsonLines
_NOTHING = pa.RecordBatch.from_arrays([], names=[])


_PARTS = re.compile(rb'"(?:[^"\\]|\\.)*"|["{}\[\]]', re.DOTALL)


def _cut_line(block: bytes) -> bytes:
    """Returns the last line of a block if the file ends inside the JSON object of that line; else b"". Only the last
    block of a file has no line end.
    """
    if block.endswith(b"\n"):
        return b""
    line = block[block.rfind(b"\n") + 1 :]
    if not line.lstrip().startswith((b"{", b"[")):
        return b""
    depth = 0
    for part in _PARTS.findall(line):
        if part == b'"':
            return line
        depth += part in (b"{", b"[")
        depth -= part in (b"}", b"]")
    return line if depth > 0 else b""


def _line_numbers(block: bytes) -> list[int]:
    """Returns the line number of each non-blank line of the block. Line numbers start at 1."""
    return [n for n, line in enumerate(block.split(b"\n"), 1) if line.strip(b" \t\r")]


def _can_be_cut(head: bytes) -> bool:
    """Whether the file can be read in byte ranges. A compressed file can't, nor can a file in UTF-16 or UTF-32."""
    wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in head
    return not wide and not plain_files.compression_of(head)


def looks_like_lines(head: bytes, *, whole: bool) -> bool:
    """Whether the file that begins with `head` is JSON Lines: its first line is an object, and another object follows.

    `whole` says that `head` is the whole file. Then a single line is enough.
    """
    head = head.removeprefix(_BOM).lstrip()
    first, newline, rest = head.partition(b"\n")
    if not first.startswith(b"{") or not (newline or whole):
        return False
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return False
    rest = rest.lstrip()
    return rest.startswith(b"{") if rest else whole


def detect(source: Source) -> list[FormatClaim]:
    """Claims files named .jsonl, .ndjson and similar, and other files that have one JSON object on each line."""
    named = without_impostors([f for f in source.files if io.extension(f.name) in EXTENSIONS])
    rest = [f for f in source.files if io.extension(f.name) in ("json", "log", "txt", "data", "")]
    line_files = tuple(f for f in rest if _is_lines(f))
    if not named and not line_files:
        return []
    files = tuple(f for f in source.files if f in set(named) | set(line_files))
    evidence = "named .jsonl" if named else "one JSON object a line"
    return [FormatClaim(JsonLines(), files, 0.95 if named else 0.9, evidence)]


def _is_lines(file: SourceFile) -> bool:
    head = io.head(file.path)
    if not head.removeprefix(_BOM).lstrip().startswith(b"{"):
        return False
    # The first line is longer than the head. Read as much as a row may have.
    if b"\n" not in head and len(head) == plain_files.HEAD_BYTES:
        head = io.head(file.path, MAX_ROW_BYTES)
    whole = len(head) < plain_files.HEAD_BYTES and io.extension(file.name) != "json"
    return looks_like_lines(head, whole=whole)
