"""Reads delimited text as its descriptor specifies. A column is text, or the type that the descriptor states."""

from __future__ import annotations

import io as stdio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv

from choline_data.adapters.base import BATCH_ROWS, Reject, SourceChunk
from choline_data.errors import SourceDamagedError, one_line

_HEADER_BYTES = 1 << 20
_VALID = {
    "integer": (r"^[+-]?[0-9]{1,18}$", pa.int64()),
    "year": (r"^-?[0-9]{1,6}$", pa.int64()),
    "number": (r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$", pa.float64()),
}


@dataclass(frozen=True)
class Table:
    """The format of a delimited table. `names` are the column names if there is no header line."""

    delimiter: str = ","
    quote: str = '"'
    double_quote: bool = True
    escape: str = ""
    encoding: str = "utf-8"
    header: bool = True
    names: tuple[str, ...] = ()
    types: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ("",)
    skip: int = 0


class PiecesFile(stdio.RawIOBase):
    """A file object over pieces of bytes. It can be read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, b""

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Copies the next bytes to `buffer` and returns their number; 0 at the end."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def chunks(table: Table, pieces: Iterator[bytes], name: str) -> Iterator[SourceChunk]:
    """Yields the rows in chunks. A row with a wrong number of fields, or with a value of a wrong type, is rejected."""
    bad: list[Reject] = []

    def refuse(row: pv.InvalidRow) -> str:
        at = (row.number or 1) - 1 - table.header - table.skip
        bad.append(Reject(name, max(at, 0), f"{row.actual_columns} fields, not {row.expected_columns}"))
        return "skip"

    read = pv.ReadOptions(
        use_threads=False,
        encoding=table.encoding,
        skip_rows=table.skip,
        column_names=None,
        autogenerate_column_names=not table.header,
        block_size=4 << 20,
    )
    parse = pv.ParseOptions(
        delimiter=table.delimiter,
        quote_char=table.quote or False,
        double_quote=table.double_quote,
        escape_char=table.escape or False,
        newlines_in_values=True,
        invalid_row_handler=refuse,
    )
    at = 0
    try:
        start = b""
        for piece in pieces:
            start += piece
            if len(start) >= _HEADER_BYTES:
                break
        names = _columns(start, read, parse)
        convert = pv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=list(table.missing),
        )
        bad.clear()
        reader = pv.open_csv(PiecesFile(chain([start], pieces)), read, parse, convert)
        for whole in reader:
            names = [*table.names[: whole.num_columns], *whole.schema.names[len(table.names) :]]
            batch = whole.rename_columns(names) if not table.header and table.names else whole
            count = batch.num_rows
            rejected = {r.row for r in bad}
            spare = np.arange(at, at + count + len(rejected), dtype=np.int64)
            rows = spare[~np.isin(spare, np.fromiter(rejected, np.int64, len(rejected)))][:count]
            at = int(rows[-1]) + 1 if count else at
            batch, keep, wrong = _typed(batch, rows, table, name)
            rejects, bad[:] = sorted([*bad, *wrong], key=lambda r: r.row), []
            rows = rows[keep]
            for low in range(0, max(batch.num_rows, 1), BATCH_ROWS):
                yield SourceChunk(batch.slice(low, BATCH_ROWS), rows[low : low + BATCH_ROWS], tuple(rejects))
                rejects = []
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeError, LookupError) as error:
        raise SourceDamagedError(
            f"{name}: {one_line(error, 160)}.", remedy="Correct the file or its descriptor."
        ) from error


def _columns(start: bytes, read: pv.ReadOptions, parse: pv.ParseOptions) -> list[str]:
    """Returns the column names, as the CSV reader determines them from the file's first bytes."""
    with pv.open_csv(PiecesFile(iter([start])), read, parse) as reader:
        names: list[str] = reader.schema.names
        return names


def _typed(
    batch: pa.RecordBatch, rows: np.ndarray, table: Table, name: str
) -> tuple[pa.RecordBatch, np.ndarray, list[Reject]]:
    keep = np.ones(batch.num_rows, bool)
    wrong: list[Reject] = []
    for column, kind in table.types:
        at = batch.schema.get_field_index(column)
        if at < 0 or kind not in _VALID:
            continue
        pattern, _ = _VALID[kind]
        text = pc.utf8_trim_whitespace(batch.column(at))
        fits = pc.fill_null(pc.match_substring_regex(text, pattern), True).to_numpy(zero_copy_only=False)
        for i in np.flatnonzero(~fits & keep):
            wrong.append(Reject(name, int(rows[i]), f"{column}: {one_line(text[int(i)].as_py(), 60)!r} is no {kind}"))
        keep &= fits
    if wrong:
        batch = batch.filter(pa.array(keep))
    for column, kind in table.types:
        at = batch.schema.get_field_index(column)
        if at >= 0 and kind in _VALID:
            text = pc.utf8_trim_whitespace(batch.column(at))
            text = pc.replace_substring_regex(text, r"^\+", "")
            batch = batch.set_column(at, column, text.cast(_VALID[kind][1]))
    return batch, keep, wrong
