"""Finds a second table in a delimited text while it is read: a header below an empty line."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from choline_data.adapters.reading.table_head import has_texts_over_numbers
from choline_data.errors import SourceFormatError

_ABOVE = 200
_MOST_GAPS = 64


class SecondTables:
    """Checks the rows of a file, chunk by chunk, for a second header below an empty line. If the user stated the
    header, the file counts as one table.
    """

    def __init__(self, name: str, *, stated: bool) -> None:
        self._name = name
        self._stated = stated
        self._above: list[list[str]] = []
        self._gaps = 0
        self.after_gap = False  # whether the last row was an empty line

    def check(self, batch: pa.RecordBatch, lines: np.ndarray, blank: np.ndarray | None) -> None:
        """Raises SourceFormatError if a row below an empty line has texts above numbers, as a header has.

        `lines` has the line of each row, and `blank` marks the empty lines.
        """
        empty = blank if blank is not None else np.zeros(batch.num_rows, bool)
        starts = (
            [] if self._stated else np.flatnonzero(~empty & np.concatenate(([self.after_gap], empty[:-1]))).tolist()
        )
        for at in starts[: _MOST_GAPS - self._gaps]:
            first = max(0, at - _ABOVE)
            above = [*(self._above if not first else ()), *_rows(batch, first, at)]
            (row,) = _rows(batch, at, at + 1)
            if above and sum(map(bool, row)) > 1 and has_texts_over_numbers(row, above):
                raise SourceFormatError(
                    f"{self._name}: line {int(lines[at])} is the header of another table, below an empty line.",
                    remedy="Make a file of each table, or read all lines as one table with --header LINE.",
                )
        self._gaps += len(starts)
        self.after_gap = bool(len(empty) and empty[-1])
        if self.after_gap:
            self._above = _rows(batch, max(0, batch.num_rows - _ABOVE), batch.num_rows)


def _rows(batch: pa.RecordBatch, start: int, end: int) -> list[list[str]]:
    """Returns these rows as texts, without the empty lines."""
    columns = [column.slice(start, end - start).to_pylist() for column in batch.columns]
    rows = ([cell or "" for cell in row] for row in zip(*columns, strict=True))
    return [row for row in rows if any(row)]
