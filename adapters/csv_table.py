"""Reads delimited text (CSV, TSV and similar). Detects the encoding, delimiter and header.

A column becomes numeric or boolean if every value is a number or true/false. "007", "1e400" or 20 digits stay text. An empty
unquoted field is null. NA, NaN, null and similar words are null in a numeric column, and stay text in a text column (NA is
also Namibia). A row with a wrong number of fields is a reject; its fields are never shifted. NUL bytes are kept.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv

from choline_data.adapters.base import (
    MAX_ROW_BYTES,
    FormatClaim,
    Reject,
    Shard,
    Source,
    SourceChunk,
    SourceFile,
    from_row,
)
from choline_data.adapters.reading import batches, io, table_options, text_files
from choline_data.adapters.reading.csv_dialect import Dialect, sniff, with_foot, with_header, with_tabs
from choline_data.adapters.reading.encodings import for_a_look
from choline_data.adapters.reading.known.format_table import format_of_bytes, format_of_text
from choline_data.adapters.reading.known.identity import without_impostors
from choline_data.adapters.reading.second_tables import SecondTables
from choline_data.adapters.reading.short_tables import NO, SURE, UNSURE, certainty_of_few_lines
from choline_data.adapters.reading.table_head import MISSING, is_number
from choline_data.errors import ChoiceNeededError, SourceDamagedError, SourceFormatError, SourceTooLargeError, one_line

SNIFF_BYTES = 1 << 20
MOST_NULLS = 64
EXTENSIONS = frozenset({"csv", "tsv", "tab", "psv", "ssv"})
_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
_FLOAT = r"^[+-]?((0|[1-9][0-9]{0,14})(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?$"
_BOOLEAN = r"^(true|false|True|False|TRUE|FALSE)$"
_MISSING = pa.array(sorted(MISSING))


@dataclass(frozen=True)
class Delimited:
    """Reads delimited text. `delimiter`, `encoding` and `header` override the detected values.

    `header` is "yes", "no" or "none", the number of the line that names the columns, or "N-M": the lines N to M are not rows, and
    line N has the names. Each of the three options may be PATTERN=VALUE, several of them parted by commas.
    """

    delimiter: str = ""
    encoding: str = ""
    header: str = ""
    max_row_bytes: int = MAX_ROW_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file. A quoted field may hold line ends, so reading can only start at the beginning."""
        return [Shard(file.path, file.name, size=file.size) for file in files]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the shard's rows from row `start` on. Row numbers count the rows after the header."""
        return from_row(start, batches.partitioned(self._chunks(shard), shard.name))

    def dialect(self, path: str, name: str, encoding: str) -> Dialect:
        """Returns the dialect of this file."""
        head = io.head(path, SNIFF_BYTES)
        if not head.strip(b"\r\n"):
            raise SourceFormatError(f"{name} is empty: it has neither a header nor rows.", remedy="Leave it out.")
        text = codecs.getincrementaldecoder(encoding)("replace").decode(head).removeprefix("\ufeff")
        whole = len(head) < SNIFF_BYTES
        if not whole and "\n" in text:
            text = text[: text.rindex("\n") + 1]
        stated = table_options.delimiter_of(self.delimiter, name)
        header = table_options.header_of(self.header, name)
        lines = table_options.lines_of(header)
        if lines is not None:
            detected = with_header(text, *lines, io.extension(name), stated)
            if detected is None:
                raise table_options.no_such_header(name, header)
        else:
            detected = _as_stated(sniff(text, io.extension(name), stated), text, header)
        return with_foot(detected, text, ask=not header) if whole else detected

    def _chunks(self, shard: Shard) -> Iterator[SourceChunk]:
        encoding = shard.encoding or text_files.encoding_of(shard.path, shard.name, self.encoding)
        dialect = self.dialect(shard.path, shard.name, encoding)
        if dialect.doubt:
            raise table_options.header_needed(shard.name, dialect.doubt, dialect.choices)
        batches.check_columns(pa.schema([pa.field(n, pa.string()) for n in dialect.names]), shard.name)
        text = _Utf8(shard.path, shard.name, encoding, dialect)
        types: dict[str, str] = dict.fromkeys(dialect.texts, "text")
        bad: list[Reject] = []
        short: set[int] = set()

        def refuse(row: pv.InvalidRow) -> str:
            line = (row.number or 0) + dialect.skip
            why = f"line {line}: {row.actual_columns} fields, not {row.expected_columns}"
            if row.text.count('"') % 2 and "\n" in row.text:
                why = _UNCLOSED.format(line)
            bad.append(Reject(shard.origin, (row.number or 1) - 1, why))
            if row.actual_columns < row.expected_columns:
                short.add(bad[-1].row)
            return "skip"

        last = None
        at = 0
        tables = SecondTables(shard.name, stated=bool(table_options.header_of(self.header, shard.name)))
        for batch in self._parsed(text, dialect, shard.name, refuse):
            last = batch if batch.num_rows else last
            rows, at = _places(at, batch.num_rows, bad)
            blank = _blank(batch, dialect)
            if blank is not None or tables.after_gap:
                tables.check(batch, rows + 1 + dialect.skip, blank)
            again = _repeats_header(batch, dialect)
            for marked, why in ((blank, "an empty line"), (again, "the header once more")):
                if marked is not None:
                    lines = ((int(row), int(row) + 1 + dialect.skip) for row in rows[marked])
                    bad += [Reject(shard.origin, row, f"line {line}: {why}", fault=False) for row, line in lines]
            if blank is not None or again is not None:
                kept = ~_either(blank, again)
                batch, rows = batch.filter(pa.array(kept)), rows[kept]
            if not len(rows):
                bad.sort(key=lambda r: r.row)
                continue
            now = [r for r in bad if r.row <= rows[-1]]
            bad[:] = sorted((r for r in bad if r.row > rows[-1]), key=lambda r: r.row)
            _raise_unclosed(now, shard.name)
            yield from batches.bounded(_typed(batch, types), rows, tuple(sorted(now, key=lambda r: r.row)))
        if text.quotes % 2 and last is not None and _ends_in_open_quote(last):
            raise SourceDamagedError(f"{shard.name}: {_UNCLOSED.format(at + dialect.skip)}.", remedy=_CLOSE)
        _raise_unclosed(bad, shard.name)
        if bad and bad[-1].row in short and bad[-1].row >= at and text.open_end:
            raise _cut(shard.name, bad[-1].reason)
        while bad and bad[-1].reason.endswith("an empty line"):
            bad.pop()
        bad += _foot(dialect, at, bad, shard)
        if bad:
            nothing = pa.RecordBatch.from_arrays([], names=[])
            yield SourceChunk(nothing, np.empty(0, np.int64), tuple(sorted(bad, key=lambda r: r.row)))
        if text.damage is not None:
            raise text.damage

    def _parsed(self, text: _Utf8, dialect: Dialect, name: str, refuse: object) -> Iterator[pa.RecordBatch]:
        """Yields the text's rows as text columns."""
        try:
            reader = pv.open_csv(
                text,
                read_options=pv.ReadOptions(
                    use_threads=False, block_size=self.max_row_bytes, column_names=list(dialect.names)
                ),
                parse_options=pv.ParseOptions(
                    delimiter="\t" if dialect.delimiter == " " else dialect.delimiter,
                    newlines_in_values=True,
                    ignore_empty_lines=dialect.blank_lines or len(dialect.names) == 1,
                    invalid_row_handler=refuse,
                ),
                convert_options=pv.ConvertOptions(
                    column_types={n: pa.string() for n in dialect.names},
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            yield from reader
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            if "straddling" in str(error):
                raise SourceTooLargeError(
                    f"{name}: a row is over {self.max_row_bytes:,} bytes, the limit (max_row_bytes); "
                    "most likely a quote is never closed.",
                    remedy=_CLOSE,
                ) from error
            raise SourceDamagedError(
                f"{name}: {one_line(error, 200)}.", remedy="Correct the file, or leave it out."
            ) from error


def _as_stated(found: Dialect, text: str, header: str) -> Dialect:
    """Returns the dialect with "yes", "no" or "none" instead of the detected header."""
    if header in ("no", "none") and found.header:
        names = tuple(f"column_{i}" for i in range(len(found.names)))
        found = replace(found, names=names, skip=found.above, header=False, texts=frozenset())
    if header == "yes" and not found.header:
        line = max(found.skip, 1)
        found = with_header(text, line, line, delimiter=found.delimiter) or found
    return replace(found, doubt="", choices=()) if header else found


ADAPTER = Delimited
_UNCLOSED = "line {}: a quote is opened and never closed"
_CLOSE = "Close it, or write it twice where it stands for itself."


class _Utf8:
    """A file object that gives the text after its header, in UTF-8.

    If the file is damaged, the text ends after the last whole line, and `damage` holds the error.
    """

    closed = False

    def __init__(self, path: str, name: str, encoding: str, dialect: Dialect) -> None:
        self.damage: SourceDamagedError | None = None
        self.quotes = 0
        self.open_end = False  # whether the text ends without a line end
        self._blanks = dialect.delimiter == " "
        self._returns = dialect.returns
        self._end = dialect.foot[0][0] if dialect.foot else -1
        self._spaced = _blanks_of(dialect.delimiter) if dialect.blank_after else None
        self._pieces = self._decoded(path, name, encoding, dialect.skip)
        self._buffer = b""

    def _decoded(self, path: str, name: str, encoding: str, skip: int) -> Iterator[bytes]:
        decoded = text_files.texts(io.pieces(path, name), name, encoding)
        if self._end >= 0:  # the whole file is in memory, because it is small
            decoded = iter(("".join(decoded),))
        tail, more = "", True
        while more:
            try:
                piece = next(decoded, None)
                more = piece is not None
                tail += (piece or "").replace("\r", "\n") if self._returns else piece or ""
            except SourceDamagedError as error:
                self.damage, more = error, False
                tail = tail[: tail.rfind("\n") + 1]
            if self._end >= 0 and tail:
                ends = [end.end() for end in re.finditer("\n", tail)]
                tail, self._end = tail[: ends[self._end - 1]], -1
            while skip and "\n" in tail:
                tail, skip = tail[tail.index("\n") + 1 :], skip - 1
            if skip:
                tail = tail if more else ""
                continue
            cut = tail.rfind("\n") + 1 if more else len(tail)
            if cut:
                yield self._line_ends(tail[:cut])
                tail = tail[cut:]
            elif len(tail) > READ_AHEAD:
                yield self._line_ends(tail)
                tail = ""

    def _line_ends(self, text: str) -> bytes:
        if self._blanks:
            text = "\n".join(map(with_tabs, text.split("\n")))
        if self._spaced is not None:
            inside, quote, rest = text.partition('"') if self.quotes % 2 else ("", "", text)
            text = inside + quote + self._spaced.sub(lambda found: found[1] or found[2] or "", rest)
        data = text.encode("utf-8", "surrogatepass")
        self.quotes += data.count(b'"')
        self.open_end = not data.endswith((b"\n", b"\r"))
        return data

    def read(self, size: int = -1) -> bytes:
        """Returns up to `size` bytes. Empty at the end."""
        while len(self._buffer) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._buffer += piece
        head, self._buffer = self._buffer[:size], self._buffer[size:]
        return head

    def readable(self) -> bool:
        """Returns True. pyarrow calls it."""
        return True


def _blanks_of(delimiter: str) -> re.Pattern[str]:
    """Matches a quoted field, or a delimiter with the blanks that follow it, or the blanks at the beginning of a line."""
    return re.compile(rf'("(?:[^"]|"")*(?:"|\Z))|({re.escape(delimiter)}) +|^ +', re.MULTILINE)


READ_AHEAD = 4 << 20


def _foot(dialect: Dialect, at: int, bad: list[Reject], shard: Shard) -> list[Reject]:
    """Returns the lines below the table as rejected rows. `at` is the row number after the last row."""
    at = max((at, *(reject.row + 1 for reject in bad)))
    below = enumerate(dialect.foot)
    return [Reject(shard.origin, at + n, f"line {line + 1}: {why}", fault=False) for n, (line, why) in below]


def _cut(name: str, reason: str) -> SourceDamagedError:
    return SourceDamagedError(
        f"{name} ends inside of a row ({reason}).", remedy="Fetch it again, or complete or remove the last line."
    )


def _places(at: int, count: int, bad: list[Reject]) -> tuple[np.ndarray, int]:
    """Returns the row numbers of the next `count` good rows from row `at` on, and the number of the row after them."""
    rejected_rows = np.fromiter((r.row for r in bad if r.row >= at), np.int64)
    rows = np.arange(at, at + count + len(rejected_rows), dtype=np.int64)
    rows = rows[~np.isin(rows, rejected_rows)][:count] if len(rejected_rows) else rows
    return rows, int(rows[-1]) + 1 if len(rows) else at


def _blank(batch: pa.RecordBatch, dialect: Dialect) -> np.ndarray | None:
    """Returns a mask of the rows in which all fields are null. None if there are no such rows."""
    if dialect.blank_lines or batch.num_columns < 2 or not batch.column(0).null_count:
        return None
    blank = np.ones(batch.num_rows, bool)
    for column in batch.columns:
        blank &= column.is_null().to_numpy(zero_copy_only=False)
        if not blank.any():
            return None
    return blank


def _either(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray:
    mask: np.ndarray = np.logical_or.reduce([each for each in (one, other) if each is not None])
    return mask


def _repeats_header(batch: pa.RecordBatch, dialect: Dialect) -> np.ndarray | None:
    """Returns a mask of the rows that repeat the names of the columns. None if there are no such rows."""
    if not dialect.header or batch.num_columns < 2:
        return None
    again = np.ones(batch.num_rows, bool)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        again &= pc.fill_null(pc.equal(column, name), False).to_numpy(zero_copy_only=False)
        if not again.any():
            return None
    return again


def _ends_in_open_quote(batch: pa.RecordBatch) -> bool:
    cells = [column[-1].as_py() for column in batch.columns]
    return any(cell is not None and "\n" in cell for cell in cells)


def _raise_unclosed(rejects: list[Reject], name: str) -> None:
    for r in rejects:
        if "never closed" in r.reason:
            raise SourceDamagedError(f"{name}: {r.reason}.", remedy=_CLOSE)


def _typed(batch: pa.RecordBatch, types: dict[str, str]) -> pa.RecordBatch:
    """Converts text columns to numbers and booleans if this loses nothing. `types` holds each column's type so far."""
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kind = types.get(name, "")
        typed, types[name] = _as_type(column, kind)
        columns.append(typed)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _as_type(column: pa.Array, before: str) -> tuple[pa.Array, str]:
    """Returns (the column, its type). The type is the narrowest of integer, float, boolean and text that fits all values so far."""
    if before == "text":
        return column, "text"
    missing = pc.is_in(column, value_set=_MISSING)
    values = pc.if_else(missing, pa.scalar(None, pa.string()), column)
    if values.null_count == len(values):
        if column.null_count != len(column):  # NA alone does not show that a column is numeric
            return column, before or "text"
        kinds = {"integer": pa.int64(), "float": pa.float64(), "boolean": pa.bool_()}
        return (column.cast(kinds[before]) if before else column), before
    if _is_padded(values):  # numbers in columns of fixed width
        values = pc.utf8_trim_whitespace(values)
    if before in ("", "integer") and _all(values, _INTEGER):
        return values.cast(pa.int64()), "integer"
    if before in ("", "integer", "float") and _all(values, _FLOAT) and pc.max(pc.binary_length(values)).as_py() < 26:
        return values.cast(pa.float64()), "float"
    if before in ("", "boolean") and _all(values, _BOOLEAN):
        return pc.utf8_lower(values).cast(pa.bool_()), "boolean"
    return column, "text"


def _is_padded(values: pa.Array) -> bool:
    """Whether the first value is a number with blanks before or after it."""
    first = next((str(value) for value in values[:MOST_NULLS] if value.is_valid), "")
    return first != first.strip() and is_number(first)


def _all(values: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, pattern)).as_py())


def detect(source: Source) -> list[FormatClaim]:
    """Claims files named .csv, .tsv and similar, and files named .txt, .data or .dat that are certainly tables.

    Raises ChoiceNeededError for a file that may be a table or a text, unless the user says with `--as` which it is.
    """
    named = set(without_impostors([f for f in source.files if io.extension(f.name) in EXTENSIONS]))
    files = tuple(f for f in source.files if f in named or _is_table(f, source))
    return [FormatClaim(Delimited(), files, 0.9, "delimited text")] if files else []


OTHER_EXTENSIONS = frozenset({"txt", "text", "data", "dat", "all", "asc", "prn", ""})
_TABLE_LINES = 5  # a file with fewer lines is not recognised as a table


def _is_table(file: SourceFile, source: Source) -> bool:
    extension, as_kind = io.extension(file.name), source.options.get("as", "")
    if extension not in OTHER_EXTENSIONS:
        return False
    likely = _table_in(file, extension)
    if likely == UNSURE and len(source.files) > 1 and io.head(file.path).count(b"\n") < _TABLE_LINES:
        return False  # a few lines beside other files, such as a list of classes
    if likely == UNSURE and not as_kind:
        raise ChoiceNeededError(
            f"{file.name} may be a table or plain text.",
            remedy="--as tabular reads it as a table, --as text as plain text.",
        )
    return likely == SURE or (likely == UNSURE and as_kind != "text")


def _table_in(file: SourceFile, extension: str) -> str:
    """Returns whether the first lines of the file say that it is a table: a sure yes, a likely yes, or no."""
    head = io.head(file.path)
    if format_of_bytes(head) is not None:
        return NO
    text = for_a_look(head, file.name)
    if "\0" in text:
        return NO
    if text.count("\n") < _TABLE_LINES:
        likely = certainty_of_few_lines(text, partial(sniff, text, extension), named=extension != "")
        return likely if likely == NO or format_of_text(head, file.name, extension) is None else NO
    text = text[: text.rfind("\n") + 1]
    likely = _certainty(text, sniff(text, extension), named=extension != "")
    # tested last, because it takes longest and most texts are not tables
    return likely if likely == NO or format_of_text(head, file.name, extension) is None else NO


def _certainty(text: str, found: Dialect, *, named: bool) -> str:
    columns, lines = len(found.names), text.count("\n")
    if lines < _TABLE_LINES or columns < 2:
        return NO
    if found.consistent == 1.0:
        if found.delimiter != "," or (columns > 2 and not _reads_as_prose(text)):
            return SURE if named or columns > 2 else NO
        return UNSURE if named and not _reads_as_prose(text) else NO
    torn = found.consistent >= 0.9 and lines >= 20 and columns > 2 and found.delimiter != " "
    return UNSURE if named and torn and not _reads_as_prose(text) else NO


def _reads_as_prose(text: str) -> bool:
    """Returns whether most commas are followed by a blank and a letter, as in a sentence."""
    commas = text.count(",")
    return commas > 0 and 2 * len(re.findall(r",\s+[^\W\d_]", text)) > commas
