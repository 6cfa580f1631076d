"""Finds the rows at the end of a table that are not data (notes and totals), and rows that may be totals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from choline_data.adapters.reading.table_head import MIN_ALIKE, Row, TableHead, filled, is_number, shown

_TOTAL = re.compile(r"\W*(grand[ _]|sub[ _]?)?(total|sum|totals|mean|average|overall)\b", re.IGNORECASE)
_NOTE = re.compile(
    r"\W*(source|sources|note|notes|total|legend|footnote|copyright|data as of|last updated)\b|[*†‡#]", re.I
)
# matches a cell that consists of a word for "total"
_IS_TOTAL = re.compile(
    r"\W*(?:(?:grand|sub)?[ _-]?totals?|insgesamt|gesamt|summe|totale|totaal|somme|итого|всего|合计|总计|合計)\W*", re.I
)
_DIGITS_OF_GROUPS = re.compile(r"(?<=\d)[,  '](?=\d{3}\b)")
_CLOSE = 0.01


def foot_of(rows: Sequence[Row], head: TableHead) -> list[tuple[int, str]]:
    """Returns (row, reason) for each row at the end of a whole table that is not data: notes, and a row of totals."""
    width = len(head.names)
    body = rows[head.skip :]
    foot: list[tuple[int, str]] = []
    while width > 2 and len(body) > MIN_ALIKE and _is_note(body[-1], body[:MIN_ALIKE], width):
        foot.append((head.skip + len(body) - 1, "a note below the table"))
        body = body[:-1]
    if len(body) > MIN_ALIKE and _is_total(body):
        foot.append((head.skip + len(body) - 1, "a total of the rows above it"))
    return foot[::-1]


def doubtful_total(rows: Sequence[Row], head: TableHead, foot: Sequence[tuple[int, str]]) -> tuple[int, str] | None:
    """Returns the first row that is named a total but may be data, and the reason for the doubt. None if there is no
    such row.

    The rows of `foot` are certainly totals. If several rows share the word, and other rows share other words in its
    column, the word is a category, such as the sex "total" in a table of statistics.
    """
    body = rows[head.skip : foot[0][0] if foot else len(rows)]
    if len(body) <= MIN_ALIKE or len(head.names) < 2:
        return None
    words = [_first(row) for row in body]
    marked = [at for at, word in enumerate(words) if word and _IS_TOTAL.fullmatch(word)]
    marked = [at for at in marked if any(_number(cell) is not None for cell in body[at])]
    others = Counter(word for at, word in enumerate(words) if at not in set(marked))
    if not marked or len(marked) * 2 > len(body) or any(count > 1 for count in others.values()):
        return None
    cells = shown(body[marked[0]])
    return head.skip + marked[0], f"({cells}) is named a total; remove it from the file, or keep it as a row of data"


def _first(row: Row) -> str:
    return next((cell.strip() for cell in row if cell.strip()), "")


def _is_note(row: Row, others: Sequence[Row], width: int) -> bool:
    if not (filled(row) == 1 and len(row) == width and row[0].strip()) or is_number(row[0]):
        return False
    full = all(filled(other) > 1 for other in others)
    numeric = all(is_number(other[0]) for other in others if other)
    return full and (numeric or bool(_NOTE.match(row[0])))


def _is_total(body: Sequence[Row]) -> bool:
    """Whether the last row is named a total or a mean, and its numbers are those of the rows above it."""
    last, above = body[-1], body[:-1]
    if not _TOTAL.match(_first(last)):
        return False
    checked = 0
    for at, cell in enumerate(last):
        stated = _number(cell)
        if stated is None:
            continue
        values = [value for row in above if at < len(row) and (value := _number(row[at])) is not None]
        whole, limit = sum(values), _CLOSE * max(abs(stated), 1e-9)
        if not values or min(abs(whole - stated), abs(whole / len(values) - stated)) > limit:
            return False
        checked += 1
    return checked > 0


def _number(cell: str) -> float | None:
    """Returns the number in a cell, which may have separators of groups, a unit of money or a percent sign. None if it has none."""
    plain = _DIGITS_OF_GROUPS.sub("", cell.strip().strip("$€£%").strip())
    return float(plain) if is_number(plain) else None
