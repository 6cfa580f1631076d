"""Detects the delimiter and header of a delimited text from its beginning."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass, replace

DELIMITERS = ",\t;|"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
# the line with which Excel states the delimiter, such as `sep=;`
_SEP = re.compile(r"\"?sep=([^\w\s\"]|\t)\"?\r?\n", re.IGNORECASE)
MIN_ALIKE = 4  # a shape counts if at least this many rows, with this many parts of a text, have it
MISSING = frozenset({"", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "-", "?"})


@dataclass(frozen=True)
class Dialect:
    """The first row follows after `skip` lines. `names` are the column names. The delimiter " " means any run of blanks."""

    delimiter: str
    names: tuple[str, ...]
    skip: int
    header: bool
    blank_lines: bool = False  # blank lines are part of this file's layout, not damage
    blank_after: bool = False  # whether a blank follows each delimiter; this blank does not belong to the field
    consistent: float = 1.0  # the share of the examined lines that have the usual number of fields


def sniff(text: str, extension: str = "") -> Dialect:
    """Returns the dialect of a text that begins with `text`, which must end at the end of a line or of the file."""
    stated = _SEP.match(text)
    lines = text[stated.end() if stated else 0 :].splitlines(keepends=True)[:400]
    delimiters = stated[1] if stated else DELIMITERS
    preamble = _comments(lines, delimiters)
    found = _sniffed(lines[preamble:], delimiters, extension)
    return replace(found, skip=found.skip + preamble + bool(stated))


def _comments(lines: list[str], delimiters: str) -> int:
    """Returns the number of comments above the header: lines that begin with #, and have another number of fields than the rows."""
    rest = next((n for n, line in enumerate(lines) if not line.startswith("#")), 0)
    body = lines[rest:]
    if not rest or not body:
        return 0
    best = max(delimiters, key=lambda d: _score(_rows(body, d)))
    rows = _rows(body, best)
    share, width = _score(rows)
    if not share and len(rows) > 1:
        return 0
    for number, line in enumerate(lines[:rest]):
        is_wide = width > 1 and len(_rows([line], best)[0]) == width
        if is_wide and not (line.startswith("# ") and _header(rows)[2]):
            return number  # the header itself begins with #, as in BED and VCF files
    return rest


def _sniffed(lines: list[str], delimiters: str, extension: str) -> Dialect:
    spaced = {d for d in delimiters if _blank_follows(_rows(lines, d))}
    ways = {d: _rows(lines, d, spaced=d in spaced) for d in delimiters}
    preferred = {"tsv": "\t", "tab": "\t", "psv": "|"}.get(extension, ",")
    preferred = preferred if preferred in delimiters else delimiters[0]
    scored = {d: _score(rows) for d, rows in ways.items()}
    best = max(
        delimiters,
        key=lambda d: (scored[d][0], _first_fits(ways[d], scored[d]), d == preferred, scored[d][1]),
    )
    if scored[best][1] < 2:
        blanks = [line.split() for line in lines if line.strip()]
        if len(blanks) > 1 and _score(blanks) >= (0.95, 2) and all(is_number(c) for c in blanks[-2]):
            best, ways[" "], scored[" "] = " ", blanks, _score(blanks)
        else:
            best = preferred
    rows = ways[best]
    names, skip, header = _header(rows)
    empty = sum(not line.strip("\r\n") for line in lines)
    leading = next((n for n, line in enumerate(lines) if line.strip("\r\n")), 0)
    return Dialect(best, names, skip + leading, header, empty * 10 > len(lines), best in spaced, scored[best][0])


def _blank_follows(rows: list[list[str]]) -> bool:
    """Whether each delimiter of at least two rows is followed by a blank."""
    return len(rows) > 1 and all(len(row) > 1 and all(cell.startswith(" ") for cell in row[1:]) for row in rows)


def _rows(lines: list[str], delimiter: str, *, spaced: bool = False) -> list[list[str]]:
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=spaced) if row][:200]
    except csv.Error:  # a field over 128 KiB: an unclosed quote, or a long text
        return [line.rstrip("\r\n").split(delimiter) for line in lines if line.strip()][:200]


def _score(rows: list[list[str]]) -> tuple[float, int]:
    """Returns (share of rows with the usual number of fields, that number). The share is 0 if the usual number is 1."""
    counts = Counter(len(row) for row in rows[1:] or rows)
    if not counts:
        return 0.0, 0
    width, times = max(counts.items(), key=lambda item: (item[1], item[0]))
    return (times / sum(counts.values()) if width > 1 else 0.0), width


def _first_fits(rows: list[list[str]], score: tuple[float, int]) -> bool:
    return bool(rows) and len(rows[0]) == score[1]


def is_number(cell: str) -> bool:
    """Whether the cell is a number written in digits."""
    return bool(_NUMBER.match(cell.strip()))


def _header(rows: list[list[str]]) -> tuple[tuple[str, ...], int, bool]:
    """Returns (column names, lines to skip, whether the first line names the columns)."""
    if not rows:
        return (), 0, False
    first, body = rows[0], rows[1:]
    widths = {len(row) for row in body}
    width = widths.pop() if len(widths) == 1 and len(body) > 2 else len(first)
    by_place = tuple(f"column_{i}" for i in range(width))
    if width != len(first):
        if width == len(first) + 1 and not any(is_number(c) for c in first):
            # R writes a header without a name for the first column, which has the names of the rows.
            return ("row_name", *first), 1, True
        return by_place, 1, False  # The first line is not a header, such as "569,30,malignant,benign" above 31 columns.
    numbers = [is_number(c) for c in first]
    if _is_like_the_rows(first, body):
        return by_place, 0, False
    if not any(numbers):
        header = len(first) > 1 or not body or len(first[0]) < 64
        return (_named(first), 1, True) if header else (by_place, 0, False)
    over_numbers = [
        body and all(is_number(r[i]) or r[i].strip() in MISSING for r in body if i < len(r)) for i in range(width)
    ]
    texts = [i for i in range(width) if not numbers[i] and first[i].strip() not in MISSING]
    if any(over_numbers[i] for i in texts):
        # A line such as "150,4,setosa,versicolor,virginica" above numbers is neither a row nor a header.
        return (by_place, 1, False) if numbers[0] else (_named(first), 1, True)
    years = all(re.fullmatch(r"(1[89]|20)\d\d", c.strip()) for c, n in zip(first, numbers, strict=True) if n)
    if years and texts and len(texts) < width and not numbers[0] and sum(numbers) > 1:
        return _named(first), 1, True
    return by_place, 0, False


def _is_like_the_rows(first: list[str], body: list[list[str]]) -> bool:
    """Whether a column of texts such as `gi|45478712|ref|` has one shape in all rows, and the first row has it too."""
    if len(body) < MIN_ALIKE:
        return False
    for place, cell in enumerate(first):
        shape = _shape(cell)
        parted = len(shape) >= MIN_ALIKE and "9" in shape and "a" in shape and not shape.isalnum()
        if parted and all(place < len(row) and _shape(row[place]) == shape for row in body):
            return len({row[place] for row in body}) > 1
    return False


def _shape(cell: str) -> str:
    """The cell with one `a` for each run of letters and one `9` for each run of digits."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", cell.strip()))


def _named(first: list[str]) -> tuple[str, ...]:
    return tuple(name if name else f"column_{i}" for i, name in enumerate(first))
