"""Reads FEN and EPD: one chess position for each row, with its parts and its operations (`bm`, `id` and others) by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source
from choline_data.adapters.text_records.line_records import LineRecords, TextRecord, claim_all

_POSITION = re.compile(
    r"(((?:[1-8pnbrqkPNBRQK]{1,8}/){7}[1-8pnbrqkPNBRQK]{1,8})[ \t]+([wb])[ \t]+([KQkqA-Ha-h]+|-)[ \t]+([a-h][36]|-))"
    r"(?:[ \t]+(\d+)[ \t]+(\d+)(?=[ \t;]|$))?[ \t]*(.*)"
)
_OPERATION = re.compile(r'\s*([A-Za-z]\w*)((?:\s+(?:"[^"]*"|[^";\s]+))*)\s*(?:;|$)')


@dataclass(frozen=True)
class ChessPositions(LineRecords):
    """Reads positions. A line that is no position is rejected."""

    types: ClassVar[Mapping[str, pa.DataType]] = {
        "fen": pa.string(),
        "board": pa.string(),
        "turn": pa.string(),
        "castling": pa.string(),
        "en_passant": pa.string(),
        "halfmove": pa.int64(),
        "fullmove": pa.int64(),
        "operations": pa.map_(pa.string(), pa.string()),
    }

    def records(self, lines: Iterator[str], shard: Shard) -> Iterator[TextRecord]:
        """Yields the positions of a file. Blank lines and lines that begin with # are comments."""
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith("#"):
                yield _position(line.strip(), number)


ADAPTER = ChessPositions


def _position(line: str, number: int) -> TextRecord:
    match = _POSITION.fullmatch(line)
    if match is None or any(_squares(rank) != 8 for rank in match[2].split("/")):
        return TextRecord(fault=f"line {number}: no chess position: {line[:80]!r}")
    short, board, turn, castling, en_passant, halfmove, fullmove, rest = match.groups()
    operations: dict[str, str] = {}
    at = 0
    while at < len(rest):
        operation = _OPERATION.match(rest, at)
        if operation is None or operation.end() == at or operation[1] in operations:
            return TextRecord(fault=f"line {number}: not the operations of a position: {rest[:80]!r}")
        value = operation[2].strip()
        operations[operation[1]] = value[1:-1] if value.count('"') == 2 and value[0] == value[-1] == '"' else value
        at = operation.end()
    values = {
        "fen": f"{short} {halfmove} {fullmove}" if halfmove else short,
        "board": board,
        "turn": turn,
        "castling": castling,
        "en_passant": en_passant,
        "halfmove": int(halfmove) if halfmove else None,
        "fullmove": int(fullmove) if fullmove else None,
        "operations": list(operations.items()),
    }
    return TextRecord(values, 4 * len(line))


def _squares(rank: str) -> int:
    return sum(int(c) if c.isdigit() else 1 for c in rank)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of positions."""
    return claim_all(source, ChessPositions(), "chess positions", kind="tabular")
