"""Reads workbooks (XLSX, XLSM, XLSB, XLS, ODS) with python-calamine. Each visible sheet is a shard.

The header is found as in a CSV file: below a title, or as the three rows of Orange. Rows below the table that are notes or totals
are rejected. A sheet with several tables is refused. A column of whole numbers is an integer column. Formulas give the values
that were computed when the workbook was saved.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Reject, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.reading.rows import as_json, column_of
from choline_data.adapters.tables.sheet_tables import numbered_rows, table_of, text_of
from choline_data.adapters.tables.table_batches import batch_chunks, claim_tables, local_file
from choline_data.errors import (
    MissingDependencyError,
    SourceDamagedError,
    SourceFormatError,
    SourceTooLargeError,
    one_line,
)

MAX_CELLS = 50_000_000
_WHOLE = float(1 << 53)


@dataclass(frozen=True)
class Excel:
    """Reads the sheets of workbooks.

    `header` is "yes", "no", "none", the row of the sheet that names the columns, or "N-M" for rows of which the first has the
    names. It may be PATTERN=VALUE, for a workbook or for `BOOK!SHEET`.
    """

    header: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each visible sheet with cells, in the order of the workbook."""
        shards: list[Shard] = []
        for file in in_order(files):
            with _opened(file.path, file.name) as book:
                visible = [sheet.name for sheet in book.sheets_metadata if _is_visible(sheet)]
                visible = [name for name in visible if book.get_sheet_by_name(name).height]
            shards += [Shard(file.path, file.name, member=name, size=file.size) for name in visible]
        return shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows of the sheet from row `start` on. Empty rows are left out."""
        with _opened(shard.path, shard.name) as book:
            sheet = book.get_sheet_by_name(shard.member)
            if sheet.height * sheet.width > MAX_CELLS:
                raise SourceTooLargeError(f"{shard.origin}: above {MAX_CELLS:,} cells.", remedy="Save it as CSV.")
            rows = numbered_rows(sheet)
        if not rows:
            return
        table = table_of(rows, self.header, shard.name, shard.origin)
        fields = [
            _column(name, values, as_text=name in table.texts)
            for name, values in zip(table.names, zip(*table.rows, strict=True), strict=bool(table.rows))
        ]
        yield from batch_chunks(
            [pa.RecordBatch.from_arrays([c for _, c in fields], schema=pa.schema([f for f, _ in fields]))], shard, start
        )
        if table.foot and start <= len(table.rows) + len(table.foot):
            rejects = (
                Reject(shard.origin, len(table.rows) + at, why, fault=False) for at, why in enumerate(table.foot)
            )
            nothing = pa.RecordBatch.from_arrays([], names=[])
            yield SourceChunk(nothing, np.empty(0, np.int64), tuple(r for r in rejects if r.row >= start))


ADAPTER = Excel


def _column(name: str, values: Sequence[Any], *, as_text: bool = False) -> tuple[pa.Field, pa.Array]:
    """Returns the cells of a column. An empty cell is null."""
    cells = [None if cell == "" else cell for cell in values]
    if as_text:
        cells = [None if cell is None else text_of(cell) for cell in cells]
    there = [cell for cell in cells if cell is not None]
    if there and all(type(c) in (int, float) and abs(c) < _WHOLE and c == int(c) for c in there):
        return column_of(name, [None if c is None else int(c) for c in cells], pa.int64())
    kinds = {type(cell) for cell in there}
    if kinds == {datetime.date, datetime.datetime}:
        cells = [datetime.datetime(c.year, c.month, c.day) if type(c) is datetime.date else c for c in cells]
    elif len(kinds) > 1 and kinds != {int, float}:
        cells = [None if c is None else as_json(c) for c in cells]
    return column_of(name, cells)


def _is_visible(sheet: Any) -> bool:
    """Whether this is a visible sheet of cells, and not a chart or a macro."""
    calamine = _library()
    return bool(sheet.visible == calamine.SheetVisibleEnum.Visible and sheet.typ == calamine.SheetTypeEnum.WorkSheet)


def _library() -> Any:
    try:
        import python_calamine
    except ModuleNotFoundError as error:
        raise MissingDependencyError("excel", "Reading workbooks") from error
    return python_calamine


@contextmanager
def _opened(path: str, name: str) -> Iterator[Any]:
    calamine = _library()
    with local_file(path, name) as local:
        try:
            yield calamine.CalamineWorkbook.from_path(local)
        except calamine.PasswordError as error:
            raise SourceFormatError(f"{name} has a password.", remedy="Save it without a password.") from error
        except (calamine.CalamineError, OSError) as error:
            raise SourceDamagedError(
                f"{name}: not readable as a workbook: {one_line(error, 160)}.", remedy="Save it again."
            ) from error


def detect(source: Source) -> list[FormatClaim]:
    """Claims the workbooks."""
    return claim_tables(source, Excel(), "sheets of a workbook")
