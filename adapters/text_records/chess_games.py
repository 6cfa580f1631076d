"""Reads PGN: one chess game for each row, with a column for each tag and the moves as text, with their comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import TextRecord, claim_all, lines_of, record_chunks, shards_of
from choline_data.errors import SourceTooLargeError

_TAG = re.compile(r'\s*\[\s*(\w+)\s+"((?:[^"\\]|\\.)*)"\s*\]\s*$')


@dataclass(frozen=True)
class Pgn:
    """Reads games. A tag that stands twice in a game keeps its last value. `moves` ends with the result of the game."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the games from number `start` on."""
        return record_chunks(
            _games(lines_of(shard, self.encoding), shard.name), shard, start, {"moves": pa.large_string()}
        )


ADAPTER = Pgn


def _games(lines: Iterator[str], name: str) -> Iterator[TextRecord]:
    tags: dict[str, str] = {}
    moves: list[str] = []
    size, in_comment = 0, False
    for line in lines:
        if line.startswith("%"):
            continue
        tag = _TAG.match(line) if not in_comment else None
        if tag is not None:
            if moves:
                yield _game(tags, moves, size)
                tags, moves, size = {}, [], 0
            tags[tag[1]] = re.sub(r"\\(.)", r"\1", tag[2])
        elif line.strip():
            moves.append(line.strip())
            in_comment = _ends_in_comment(line, in_comment)
        size += len(line)
        if size > MAX_ROW_BYTES:
            raise SourceTooLargeError(
                f"{name}: a game is above {MAX_ROW_BYTES:,} characters.", remedy="Split the file."
            )
    if tags or moves:
        yield _game(tags, moves, size)


def _ends_in_comment(line: str, in_comment: bool) -> bool:
    """Whether a comment in braces goes on after this line. A comment after `;` ends with its line."""
    for char in line:
        if in_comment:
            in_comment = char != "}"
        elif char == ";":
            break
        else:
            in_comment = char == "{"
    return in_comment


def _game(tags: dict[str, str], moves: list[str], size: int) -> TextRecord:
    if not moves:
        return TextRecord(fault="a game without moves and without a result")
    return TextRecord({**tags, "moves": "\n".join(moves)}, size)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the PGN files."""
    return claim_all(source, Pgn(), "PGN games", kind="tabular")
