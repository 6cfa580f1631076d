"""Detects the delimiter and the header of a delimited text from its beginning."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from choline_data.adapters.reading.table_foot import doubtful_total, foot_of
from choline_data.adapters.reading.table_head import (
    Doubt,
    TableHead,
    has_texts_over_numbers,
    head_of,
    is_number,
)

DELIMITERS = ",\t;|"
_SEP = re.compile(
    r"\"?sep=([^\w\s\"]|\t)\"?\r?\n", re.IGNORECASE
)  # the line with which Excel states the delimiter, such as `sep=;`
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_TOKENS = re.compile(r'"(?:[^"]|"")*"(?!\S)|\S+')
_MOST_LINES = 400
_MOST_ROWS = 200
_MOST_GAPS = 20
_SECOND = "line {} is the header of another table, below an empty line"


@dataclass(frozen=True)
class Dialect:
    """How a delimited text is written. The first row follows after `skip` lines. `names` are the column names. The
    delimiter " " means any run of blanks.
    """

    delimiter: str
    names: tuple[str, ...]
    skip: int
    header: bool
    blank_lines: bool = False  # blank lines are part of this file's layout, not damage
    blank_after: bool = False  # whether a blank follows each delimiter; this blank does not belong to the field
    consistent: float = 1.0  # the share of the examined lines that have the usual number of fields
    above: int = 0  # the lines above the header, or above the rows if there is no header
    doubt: str = ""  # what is not clear about the header
    choices: tuple[str, ...] = ()  # the values of `--header` between which the user can choose
    texts: frozenset[str] = frozenset()  # the columns that the file states as text
    foot: tuple[tuple[int, str], ...] = ()  # (line, reason) of the lines at the end that are not rows
    returns: bool = False  # whether a CR alone ends each line


@dataclass(frozen=True)
class _Lines:
    """The rows of some lines, and the number of lines above each row and after the last one."""

    rows: list[list[str]]
    starts: list[int]


def sniff(text: str, extension: str = "", delimiter: str = "") -> Dialect:
    """Returns the dialect of a text that begins with `text`, which must end at the end of a line or of the file."""
    returns = "\n" not in text and "\r" in text
    text = text.replace("\r", "\n") if returns else text
    stated = None if delimiter else _SEP.match(text)
    lines = _LINES.findall(text, stated.end() if stated else 0)[:_MOST_LINES]
    delimiters = delimiter or (stated[1] if stated else DELIMITERS)
    preamble = _comments(lines, delimiters)
    dialect = _sniffed(lines[preamble:], delimiters, extension)
    more = preamble + bool(stated)
    return replace(
        dialect,
        skip=dialect.skip + more,
        above=dialect.above + more,
        choices=tuple(_moved(choice, more) for choice in dialect.choices),
        returns=returns,
    )


def with_header(text: str, first: int, last: int, extension: str = "", delimiter: str = "") -> Dialect | None:
    """Returns the dialect of a text whose header is in line `first`, and whose rows follow after line `last`.

    Lines are counted from 1. None if the text has no such lines, or if the header has too few names.
    """
    returns = "\n" not in text and "\r" in text
    lines = _LINES.findall(text.replace("\r", "\n") if returns else text)
    if last >= len(lines) or not lines[first - 1].strip():
        return None
    dialect_read = _sniffed([lines[first - 1], *lines[last : last + _MOST_LINES]], delimiter or DELIMITERS, extension)
    names = tuple(cells(lines[first - 1], dialect_read.delimiter, spaced=dialect_read.blank_after))
    width = len(dialect_read.names)
    if len(names) == width - 1:
        names = ("row_name", *names)
    if len(names) != width:
        return None
    named = tuple(name if name else f"column_{at}" for at, name in enumerate(names))
    plain = replace(dialect_read, doubt="", choices=(), texts=frozenset())
    return replace(plain, names=named, skip=last, above=first - 1, header=True, returns=returns)


def cells(line: str, delimiter: str, *, spaced: bool = False) -> list[str]:
    """Returns the fields of one line."""
    if delimiter == " ":
        return [_unquoted(token) for token in _TOKENS.findall(line)]
    return next(iter(csv.reader([line], delimiter=delimiter, skipinitialspace=spaced)), [])


def with_tabs(line: str) -> str:
    """Returns a line with tabs between its fields, in place of runs of blanks. Quotes stay."""
    return "\t".join(_TOKENS.findall(line)) if '"' in line else "\t".join(line.split())


def _unquoted(token: str) -> str:
    return token[1:-1].replace('""', '"') if len(token) > 1 and token[0] == token[-1] == '"' else token


def with_foot(dialect: Dialect, text: str, *, ask: bool) -> Dialect:
    """Finds the lines at the end of the file that are not rows, and returns the dialect with their numbers added.

    `text` is the whole file.

    With `ask`, a second table in the file is a doubt (an open question), and so is a row of totals that does not add
    up.
    """
    text = text.replace("\r", "\n") if dialect.returns else text
    if dialect.delimiter == " " or len(dialect.names) < 2:
        return dialect
    lines = _LINES.findall(text)[dialect.skip :]
    way = _read(lines, dialect.delimiter, spaced=dialect.blank_after, most=len(lines))
    second = _second_table(way, lines, TableHead(dialect.names, 0)) if ask and not dialect.doubt else 0
    if second:
        doubt = _SECOND.format(second + dialect.skip)
        dialect = replace(dialect, doubt=doubt, choices=(str(dialect.above + 1) if dialect.header else "none",))
    foot = foot_of(way.rows, TableHead(dialect.names, 0))
    total = doubtful_total(way.rows, TableHead(dialect.names, 0), foot) if ask and not dialect.doubt else None
    if total is not None:
        line = way.starts[total[0]] + dialect.skip + 1
        doubt = f"line {line}: {total[1]}"
        dialect = replace(dialect, doubt=doubt, choices=(str(dialect.above + 1) if dialect.header else "none",))
    return replace(dialect, foot=tuple((way.starts[row] + dialect.skip, reason) for row, reason in foot))


def _moved(choice: str, lines: int) -> str:
    """Returns a value of `--header` with its line numbers increased by `lines`, the number of lines above the text."""
    return choice if choice == "none" else "-".join(str(int(line) + lines) for line in choice.split("-"))


def _comments(lines: list[str], delimiters: str) -> int:
    """Returns the number of comments above the header: lines that begin with #, and have another number of fields than the rows."""
    rest = next((n for n, line in enumerate(lines) if not line.startswith("#")), 0)
    body = lines[rest:]
    if not rest or not body:
        return 0
    best = max(delimiters, key=lambda d: _score(_read(body, d).rows))
    rows = _read(body, best).rows
    share, width = _score(rows)
    if not share and len(rows) > 1:
        return 0
    for number, line in enumerate(lines[:rest]):
        is_wide = width > 1 and len(_read([line], best).rows[0]) == width
        if is_wide and not (line.startswith("# ") and head_of(rows).header):
            return number  # the header itself begins with #, as in BED and VCF files
    return rest


def _sniffed(lines: list[str], delimiters: str, extension: str) -> Dialect:
    if delimiters == " ":
        ways, spaced, best = {" ": _blanks(lines)}, set[str](), " "
        scored = {" ": _score(ways[" "].rows)}
    else:
        ways, spaced, scored, best = _best(lines, delimiters, extension)
    way = ways[best]
    head = head_of(way.rows)
    second = _second_table(way, lines, head)
    if second:
        head = replace(head, doubt=Doubt(_SECOND.format(second), ((head.at, head.at) if head.header else None,)))
    empty = sum(not line.strip("\r\n") or line.endswith("\r\r\n") for line in lines)
    starts = [*way.starts, len(lines) if way.rows else 0]
    skip = starts[min(head.skip, len(starts) - 1)]
    return Dialect(
        best,
        head.names,
        skip,
        head.header,
        empty * 10 > len(lines),
        best in spaced,
        scored[best][0],
        above=starts[head.at] if head.header else skip,
        doubt=head.doubt.message if head.doubt else "",
        choices=_choices(head.doubt, way.starts),
        texts=head.texts,
    )


def _second_table(found: _Lines, lines: Sequence[str], head: TableHead) -> int:
    """Returns the number of a line below an empty line that has texts above numbers, as a header has, or 0."""
    first, gaps = max(head.skip, 1), 0
    for at in range(first + 1, len(found.rows)):
        row, start = found.rows[at], found.starts[at]
        apart = not lines[start - 1].strip("\r\n") or not any(found.rows[at - 1])
        if not apart or len(row) < 2 or not any(row):
            continue
        if has_texts_over_numbers(row, found.rows[max(first, at - _MOST_ROWS) : at]):
            return start + 1
        gaps += 1
        if gaps == _MOST_GAPS:
            break
    return 0


def _choices(doubt: Doubt | None, starts: Sequence[int]) -> tuple[str, ...]:
    """Returns the values of `--header` that the user can choose from if it is not clear which line is the header."""
    values = []
    for choice in doubt.choices if doubt is not None else ():
        if choice is None:
            values.append("none")
            continue
        first, last = (starts[row] + 1 for row in choice)
        values.append(f"{first}-{last}" if last > first else str(first))
    return tuple(values)


def _best(
    lines: list[str], delimiters: str, extension: str
) -> tuple[dict[str, _Lines], set[str], dict[str, tuple[float, int]], str]:
    """Returns the rows for each delimiter, those that a blank follows, the scores, and the delimiter that fits best."""
    present = {d for d in delimiters if any(d in line for line in lines)}
    # Without a delimiter in the lines, each line is one field, whatever the delimiter is.
    undivided = [_read(lines, d) for d in delimiters if d not in present][:1]
    ways = {d: _read(lines, d) if d in present else undivided[0] for d in delimiters}
    spaced = {d for d, way in ways.items() if _blank_follows(way.rows)}
    ways |= {d: _read(lines, d, spaced=True) for d in spaced}
    preferred = {"tsv": "\t", "tab": "\t", "psv": "|"}.get(extension, ",")
    preferred = preferred if preferred in delimiters else delimiters[0]
    scored = {d: _score(way.rows) for d, way in ways.items()}
    best = max(
        delimiters,
        key=lambda d: (scored[d][0], _first_fits(ways[d].rows, scored[d]), d == preferred, scored[d][1]),
    )
    if scored[best][1] < 2:
        blanks = _blanks(lines)
        if len(blanks.rows) > 1 and _score(blanks.rows) >= (0.95, 2) and _is_table_of_blanks(blanks.rows, lines):
            best, ways[" "], scored[" "] = " ", blanks, _score(blanks.rows)
        else:
            best = preferred
    return ways, spaced, scored, best


def _is_table_of_blanks(rows: list[list[str]], lines: list[str]) -> bool:
    """Whether rows of fields that blanks part are a table: they end in numbers, or the header and the texts are quoted."""
    if all(is_number(cell) for cell in rows[-2]):
        return True
    width = _score(rows)[1]
    body = [row for row in rows[1:] if len(row) == width]
    numeric = sum(all(is_number(row[at]) or row[at] == "NA" for row in body) for at in range(width))
    quoted = all(token[:1] == token[-1:] == '"' for token in _TOKENS.findall(lines[0]))
    return len(rows) > 2 and ((quoted and len(rows[0]) > 1) or (numeric > 1 and 2 * numeric >= width))


def _blanks(lines: list[str]) -> _Lines:
    kept = [(at, line) for at, line in enumerate(lines) if line.strip()][:_MOST_ROWS]
    return _Lines([cells(line, " ") for _, line in kept], [at for at, _ in kept])


def _blank_follows(rows: list[list[str]]) -> bool:
    """Whether each delimiter of at least two rows is followed by a blank."""
    return len(rows) > 1 and all(len(row) > 1 and all(cell.startswith(" ") for cell in row[1:]) for row in rows)


def _read(lines: list[str], delimiter: str, *, spaced: bool = False, most: int = _MOST_ROWS) -> _Lines:
    rows: list[list[str]] = []
    starts: list[int] = []
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=spaced)
    try:
        at = 0
        for row in reader:
            if row:
                rows.append(row)
                starts.append(at)
            at = reader.line_num
            if len(rows) == most:
                break
    except csv.Error:  # a field over 128 KiB: an unclosed quote, or a long text
        kept = [(at, line) for at, line in enumerate(lines) if line.strip()][:most]
        return _Lines([line.rstrip("\r\n").split(delimiter) for _, line in kept], [at for at, _ in kept])
    return _Lines(rows, starts)


def _score(rows: list[list[str]]) -> tuple[float, int]:
    """Returns (share of rows with the usual number of fields, that number). The share is 0 if the usual number is 1."""
    counts = Counter(len(row) for row in rows[1:] or rows)
    if not counts:
        return 0.0, 0
    width, times = max(counts.items(), key=lambda item: (item[1], item[0]))
    return (times / sum(counts.values()) if width > 1 else 0.0), width


def _first_fits(rows: list[list[str]], score: tuple[float, int]) -> bool:
    return bool(rows) and len(rows[0]) == score[1]
