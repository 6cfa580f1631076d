"""Finds the header of a table among its first rows, and the rows that are not data: titles, units, types.

A question that the rows leave open is a `Doubt`. Its choices are the rows that may be the header.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

Row = Sequence[str]

MISSING = frozenset({"", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "-", "?"})
MIN_ALIKE = 4  # this many rows, or parts of a text, are enough to recognise a shape
MOST_ABOVE = 40  # a table with more rows of another width above its header has no header
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_BLANK_WORDS = frozenset({".", "..", "missing", "unknown", "none"})
_UNIT = re.compile(r"[\[(].*[\])]$|%|[a-zµμ°]{1,4}([/·*^ ]?[a-z0-9²³-]{1,5})*$", re.IGNORECASE)
_ORANGE_TYPES = frozenset({"continuous", "discrete", "string", "time", "text", "c", "d", "s", "t", "n"})
_ORANGE_FLAGS = re.compile(r"(class|meta|ignore|skip|weight|i|m|c|w|[\w-]+=\S*)( [\w-]+=\S*)*$")
_LONG = 80  # the name of a column is rarely longer than this many characters
_PROSE = 40
# words that are typical for names of columns
_COLUMN_WORDS = frozenset(
    {
        "id",
        "name",
        "names",
        "text",
        "label",
        "labels",
        "class",
        "category",
        "type",
        "kind",
        "title",
        "code",
        "key",
        "value",
        "values",
        "country",
        "city",
        "state",
        "region",
        "county",
        "continent",
        "date",
        "time",
        "year",
        "month",
        "day",
        "gender",
        "sex",
        "lang",
        "language",
        "word",
        "words",
        "term",
        "token",
        "lemma",
        "pos",
        "tag",
        "tags",
        "group",
        "url",
        "link",
        "path",
        "file",
        "filename",
        "image",
        "author",
        "user",
        "username",
        "comment",
        "comments",
        "review",
        "sentence",
        "question",
        "answer",
        "sentiment",
        "rating",
        "score",
        "status",
        "source",
        "target",
        "description",
        "desc",
        "species",
        "symbol",
        "unit",
        "address",
        "email",
        "phone",
        "company",
        "product",
        "model",
        "brand",
        "message",
        "content",
        "body",
        "subject",
        "topic",
        "genre",
        "artist",
        "album",
        "track",
        "artists",
        "book",
        "article",
        "headline",
        "summary",
        "input",
        "output",
        "prompt",
        "response",
        "instruction",
        "context",
        "variable",
        "variables",
        "definition",
        "meaning",
        "translation",
        "english",
        "german",
        "french",
        "spanish",
        "capital",
        "currency",
        "color",
        "colour",
        "size",
        "note",
        "notes",
        "alias",
        "abbr",
        "abbreviation",
        "iso",
        "iata",
        "icao",
        "index",
        "rank",
        "order",
        "level",
        "field",
        "column",
        "first name",
        "last name",
        "surname",
        "position",
        "team",
        "player",
        "event",
        "location",
        "place",
        "district",
        "version",
        "format",
    }
)
# fmt: on


@dataclass(frozen=True)
class Doubt:
    """An open question about the header: why it is not clear, and the rows (first, last) that may be the header. None
    means no header.
    """

    message: str
    choices: tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class TableHead:
    """The names of the columns, the number of rows above the first row of data, and the row with the names (-1: none).

    `texts` are columns that the table states as text.
    """

    names: tuple[str, ...]
    skip: int
    at: int = -1
    doubt: Doubt | None = None
    texts: frozenset[str] = frozenset()

    @property
    def header(self) -> bool:
        """Whether a row names the columns."""
        return self.at >= 0


def is_number(cell: str) -> bool:
    """Whether the cell is a number written in digits."""
    return bool(_NUMBER.match(cell.strip()))


def by_place(width: int) -> tuple[str, ...]:
    """Returns names for columns without names."""
    return tuple(f"column_{at}" for at in range(width))


def head_of(rows: Sequence[Row]) -> TableHead:
    """Returns the head of a table that begins with these rows."""
    if not rows:
        return TableHead((), 0)
    width = _usual_width(rows)
    first = rows[0]
    if _has_row_names(rows, width):
        return TableHead(("row_name", *named(first)), 1, 0)
    above = _notes_above(rows, width)
    head = _orange(rows[above:]) or _header(rows[above:], width)
    if not above:
        return head
    return _below(rows, above, head)


def _has_row_names(rows: Sequence[Row], width: int) -> bool:
    """Whether the header names all columns but the first one, as R writes it."""
    first, body = rows[0], rows[1:]
    if width != len(first) + 1 or any(map(is_number, first)) or not filled(first) or len(rows) < MIN_ALIKE:
        return False
    return all(len(row) == width for row in body) and not has_texts_over_numbers(body[0], body[1:])


def _below(rows: Sequence[Row], above: int, found: TableHead) -> TableHead:
    """Returns the head of the rows below `above` lines of another width, with a doubt if these may hold the header."""
    doubt = found.doubt and Doubt(
        found.doubt.message,
        tuple(c and (c[0] + above, c[1] + above) for c in found.doubt.choices),
    )
    head = TableHead(found.names, found.skip + above, found.at + above if found.header else -1, doubt, found.texts)
    last = rows[above - 1]
    if doubt is None and not found.header and filled(last) > 1 and not any(is_number(c) for c in last):
        message = f"the line above the rows ({shown(last)}) has {len(last)} fields, and the rows have {len(head.names)}"
        return replace(head, doubt=Doubt(message, (None,)))
    if doubt is None and found.header and not has_texts_over_numbers(rows[above], rows[above + 1 :]):
        message = f"the line ({shown(rows[above])}), which lines of another width precede, may be the header or a row"
        return replace(head, doubt=Doubt(message, ((above, above), None)))
    return head


def filled(row: Row) -> int:
    """Returns the number of cells that are not empty."""
    return sum(bool(cell.strip()) for cell in row)


def shown(row: Row) -> str:
    """Returns the first cells of a row, for a message."""
    cells = [cell.strip()[:24] for cell in row[:4]]
    return f"{', '.join(cells)}{' …' if len(row) > 4 else ''}"


def named(first: Row) -> tuple[str, ...]:
    """Returns the names of a header. A column without a name is called by its place."""
    return tuple(name if name else f"column_{at}" for at, name in enumerate(first))


def _usual_width(rows: Sequence[Row]) -> int:
    body = rows[1:]
    if len(body) < 2:
        return len(rows[0])
    counts = Counter(len(row) for row in body)
    width, times = max(counts.items(), key=lambda item: (item[1], item[0]))
    return width if 2 * times > len(body) else len(rows[0])


def _notes_above(rows: Sequence[Row], width: int) -> int:
    """Returns the number of rows above the table: they have another width, or only one filled cell."""
    usual = median(map(filled, rows))
    for above, row in enumerate(rows[:MOST_ABOVE]):
        lone = (filled(row) <= 1 or 2 * filled(row) <= usual) and (width > 2 or (width == 2 and bool(row[0].strip())))
        if len(row) == width and not (lone and _is_title(row, rows[above + 1 :])):
            return above
    return 0


def _is_title(row: Row, rest: Sequence[Row]) -> bool:
    """Returns whether a row with one filled cell is a title: the rows below it have more cells, and it is not the name
    of a column of row names.
    """
    return bool(rest) and 2 * sum(filled(other) > 1 for other in rest) > len(rest) and not is_number("".join(row))


def _orange(rows: Sequence[Row]) -> TableHead | None:
    """Recognises the header of Orange: names, types (`continuous`, `d`), flags (`class`, `meta`). Returns the head, or
    None.
    """
    if len(rows) < 3 or not len(rows[0]) == len(rows[1]) >= len(rows[2]):
        return None
    types = [cell.strip().lower() for cell in rows[1]]
    flags = [cell.strip() for cell in rows[2]]
    stated = [kind in _ORANGE_TYPES or len(set(kind.split())) > 1 for kind in types]
    if not all(stated) or not any(kind in _ORANGE_TYPES for kind in types):
        return None
    if not all(not flag or _ORANGE_FLAGS.match(flag) for flag in flags) or any(map(is_number, rows[0])):
        return None
    names = named(rows[0])
    texts = frozenset(name for name, kind in zip(names, types, strict=True) if kind in ("string", "s", "text"))
    return TableHead(names, 3, 0, texts=texts)


def _header(rows: Sequence[Row], width: int) -> TableHead:
    """Returns the head of rows of one width, the first of which may be the header."""
    first, body = rows[0], [row for row in rows[1:] if list(row) != list(rows[0])]
    none = TableHead(by_place(width), 0)
    if len(first) != width:
        return TableHead(by_place(len(first)), 0)
    if _is_like_the_rows(first, body):
        return none
    numbers = [is_number(c) for c in first]
    if (
        width > 1
        and len(body) > 1
        and [cell.strip() for cell in first] == ["", *map(str, range(width - 1))]
        and all(row[0].strip() for row in body)
    ):
        return TableHead(named(first), 1, 0)  # pandas writes an index without a name, and numbers the columns
    if any(numbers):
        return _header_with_numbers(first, body, numbers)
    units = _units_below(first, body)
    if units is not None:
        return units
    header = TableHead(named(first), 1, 0)
    if has_texts_over_numbers(first, body) or not body:
        return header if width > 1 or not body or len(first[0]) < 64 else none
    repeats = _repeats(first, rows[1:])
    if repeats > 1 and not any(list(row) == list(first) for row in rows[1:]):
        return none
    if repeats or not _reads_as_names(first, body):
        message = f"its first line ({shown(first)}) may be the header or a row"
        return replace(header, doubt=Doubt(message, ((0, 0), None)))
    return header


def _header_with_numbers(first: Row, body: Sequence[Row], numbers: Sequence[bool]) -> TableHead:
    width = len(first)
    over = _numeric_columns(first, body)
    texts = [i for i in range(width) if not numbers[i] and first[i].strip() not in MISSING]
    if over & set(texts) and not numbers[0]:
        return TableHead(named(first), 1, 0)
    if over & set(texts):
        if all(numbers[:2]) and not any(numbers[2:]) and all(cell.strip().isdigit() for cell in first[:2]):
            # A line such as "150,4,setosa,versicolor,virginica" above numbers is neither a row nor a header.
            return TableHead(by_place(width), 1)
        message = f"its first line ({shown(first)}) may be a row or the header, but has texts above numbers"
        return TableHead(by_place(width), 0, doubt=Doubt(message, (None, (0, 0))))
    years = all(re.fullmatch(r"(1[89]|20)\d\d", c.strip()) for c, n in zip(first, numbers, strict=True) if n)
    if years and texts and len(texts) < width and not numbers[0] and sum(numbers) > 1:
        return TableHead(named(first), 1, 0)
    return TableHead(by_place(width), 0)


def _numeric_columns(first: Row, body: Sequence[Row]) -> set[int]:
    """Returns the columns in which all values are numbers or missing."""
    if not body:
        return set()
    return {
        at
        for at in range(len(first))
        if all(is_number(row[at]) or row[at].strip() in MISSING for row in body if at < len(row))
        and any(is_number(row[at]) for row in body if at < len(row))
    }


def has_texts_over_numbers(first: Row, body: Sequence[Row]) -> bool:
    """Returns whether the first row has a text in a column in which the rows below have numbers."""
    return any(first[at].strip() not in MISSING and not is_number(first[at]) for at in _numeric_columns(first, body))


def _units_below(first: Row, body: Sequence[Row]) -> TableHead | None:
    """Recognises a row of units or types below the header: all its cells above columns of numbers are texts. Returns
    the head, or None.
    """
    if len(body) < MIN_ALIKE:
        return None
    under, rest = body[0], body[1:]
    numeric = [at for at in _numeric_columns(first, rest) if at < len(under) and under[at].strip()]
    cells = [under[at].strip() for at in numeric]
    if not cells or any(is_number(c) or c in MISSING or c.lower() in _BLANK_WORDS for c in cells):
        return None
    if len(cells) < 2 and not _UNIT.match(cells[0]):
        return None
    below = (
        [(1, 1)] if len({cell for cell in under if cell}) == len(first) else []
    )  # the second line of a header with two lines
    message = f"the line below the header ({shown(under)}) may hold units or types, or be a row"
    return TableHead(named(first), 1, 0, Doubt(message, ((0, 1), (0, 0), *below)))


def _repeats(first: Row, body: Sequence[Row]) -> int:
    """Returns, for the cell of the first row that is repeated most often, how often its value occurs in its column."""
    counts = [sum(row[at] == cell for row in body if at < len(row)) for at, cell in enumerate(first) if cell.strip()]
    return max(counts, default=0)


def _reads_as_names(first: Row, body: Sequence[Row]) -> bool:
    """Whether a cell of the first row differs from the cells below it as a name differs from values."""
    if any(len(cell) > _LONG for cell in first):
        return False
    cells = [cell.strip() for cell in first]
    if all(len(cell) <= 1 for cell in cells) and sorted(cells) == cells:
        return True  # names such as a, b, c
    if any(cell.lower() in _COLUMN_WORDS or set(re.split(r"[\W_]+", cell.lower())) & _COLUMN_WORDS for cell in cells):
        return all(len(cell) < _PROSE for cell in cells)
    for at, cell in enumerate(cells):
        values = [row[at].strip() for row in body if at < len(row) and row[at].strip() not in MISSING]
        if not values or not cell:
            continue
        if len(cell) < _PROSE < sum(map(len, values)) / len(values):
            return True
        if "_" in cell and not any("_" in value for value in values):
            return True
        shapes = {_cased_shape(value) for value in values}
        if len(values) >= MIN_ALIKE and len(shapes) == 1 and _cased_shape(cell) not in shapes:
            return True
        if cell.islower() and cell.isidentifier() and not any(value[:1].islower() for value in values):
            return True
    return False


def _is_like_the_rows(first: Row, body: Sequence[Row]) -> bool:
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
    """Returns the cell with one `a` in place of each run of letters, and one `9` in place of each run of digits."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", cell.strip()))


def _cased_shape(cell: str) -> str:
    """Like `_shape`, but with `A` in place of each run of capitals."""
    return re.sub(r"[a-z]+", "a", re.sub(r"[A-Z]+", "A", re.sub(r"\d+", "9", cell.strip())))
