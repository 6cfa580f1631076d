"""Finds the table of a sheet: its header, its rows, and the rows below it that are not data."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from choline_data.adapters.reading import table_options
from choline_data.adapters.reading.table_foot import doubtful_total, foot_of
from choline_data.adapters.reading.table_head import (
    TableHead,
    by_place,
    filled,
    has_texts_over_numbers,
    head_of,
    named,
)
from choline_data.errors import SourceFormatError, one_line

_LOOKED = 200


@dataclass(frozen=True)
class Numbered:
    """A row of a sheet that is not empty, and its number in the sheet, from 1."""

    number: int
    cells: list[Any]


@dataclass(frozen=True)
class SheetTable:
    """The table of a sheet: the names of its columns, its rows, the columns that the sheet states as text, and the
    reason for each row below that is not data.
    """

    names: tuple[str, ...]
    rows: list[list[Any]]
    texts: frozenset[str] = frozenset()
    foot: list[str] = field(default_factory=list)


def numbered_rows(sheet: Any) -> list[Numbered]:
    """Returns the rows of a sheet that are not empty."""
    above = sheet.start[0] if sheet.start else 0
    every = enumerate(sheet.to_python(skip_empty_area=True), above + 1)
    return [Numbered(number, row) for number, row in every if any(cell != "" for cell in row)]


def text_of(cell: Any) -> str:
    """Returns a cell as text. A whole number has no decimal point."""
    if isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, float) and cell == int(cell):
        return str(int(cell))
    return cell.isoformat() if isinstance(cell, (datetime.date, datetime.time)) else str(cell)


def table_of(rows: Sequence[Numbered], header: str, name: str, where: str) -> SheetTable:
    """Returns the table of the rows.

    Raises ChoiceNeededError if the header is not clear, and SourceFormatError if the sheet holds several tables or no header.
    """
    stated = table_options.header_of(header, where) or table_options.header_of(header, name)
    texts = [[text_of(cell) for cell in row.cells] for row in rows]
    head = _stated(rows, texts, stated, where) if stated else head_of(texts[:_LOOKED])
    if not stated:
        _ask(rows, head, texts, where)
        _refuse_several(rows, texts, head, where)
    foot = [] if stated else foot_of(texts, head)
    total = None if stated else doubtful_total(texts, head, foot)
    if total is not None:
        choices = [str(rows[head.at].number) if head.header else "none"]
        raise table_options.header_needed(where, f"row {rows[total[0]].number}: {total[1]}", choices, lines=False)
    end = foot[0][0] if foot else len(rows)
    body = [row.cells for row in rows[head.skip : end]]
    return SheetTable(head.names, body, head.texts, [f"row {rows[at].number}: {why}" for at, why in foot])


def _stated(rows: Sequence[Numbered], texts: Sequence[list[str]], stated: str, where: str) -> TableHead:
    lines = table_options.lines_of(stated)
    if lines is None and stated == "yes":
        lines = rows[0].number, rows[0].number
    if lines is None:
        return TableHead(by_place(len(texts[0])), 0)
    at = next((n for n, row in enumerate(rows) if row.number == lines[0]), None)
    if at is None:
        raise table_options.no_such_header(where, stated)
    return TableHead(named([cell.strip() for cell in texts[at]]), sum(row.number <= lines[1] for row in rows), at)


def _ask(rows: Sequence[Numbered], head: TableHead, texts: Sequence[list[str]], where: str) -> None:
    """Raises ChoiceNeededError if the header is in doubt, and SourceFormatError if there is no clear header at all."""
    if head.doubt is not None:
        choices = [
            "none" if c is None else "-".join(dict.fromkeys(str(rows[at].number) for at in c))
            for c in head.doubt.choices
        ]
        raise table_options.header_needed(where, head.doubt.message, choices, lines=False)
    if head.header and (2 * filled(texts[head.at]) <= len(texts[head.at]) and len(texts[head.at]) > 2):
        raise SourceFormatError(
            f"{where} does not begin with a row of column names: {one_line(texts[head.at], 120)}.",
            remedy="Say with --header which row names the columns, or save the table as CSV.",
        )
    gap = _empty_column(texts[head.skip :], head)
    if gap:
        message = f"the empty column {gap} parts it into two tables side by side"
        raise table_options.header_needed(where, message, [str(rows[max(head.at, 0)].number)], lines=False)


def _empty_column(body: Sequence[list[str]], head: TableHead) -> int:
    """Returns the number of a column without a name and without values between others, or 0."""
    width = len(head.names)
    for at in range(1, width - 1):
        if head.header and head.names[at] == f"column_{at}" and not any(row[at].strip() for row in body):
            return at + 1
    return 0


def _refuse_several(rows: Sequence[Numbered], texts: Sequence[list[str]], head: TableHead, where: str) -> None:
    """Raises SourceFormatError if another header stands below an empty row."""
    if not head.header:
        return
    body = texts[head.skip :]
    for at in range(1, len(body)):
        row = head.skip + at
        apart = rows[row].number > rows[row - 1].number + 1
        if apart and filled(body[at]) > 1 and has_texts_over_numbers(body[at], body[:at]):
            raise SourceFormatError(
                f"{where} holds several tables: one up to row {rows[row - 1].number}, and one from row {rows[row].number} on.",
                remedy="Give each table a sheet of its own, or save each as CSV.",
            )
