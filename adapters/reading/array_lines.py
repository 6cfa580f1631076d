"""Reads JSON Lines in which each line is an array, such as `["Ann", 3]`: finds the names of the columns, and converts
each line to an object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from choline_data.adapters.reading import table_options
from choline_data.adapters.reading.records import checked_loads, dumps
from choline_data.adapters.reading.table_head import by_place, head_of

_LOOKED = 64


@dataclass(frozen=True)
class ArrayLines:
    """The names of the columns of lines that are arrays. With `header`, the first line of the file holds the names."""

    names: tuple[str, ...]
    header: bool

    def as_objects(self, block: bytes, *, first: bool) -> bytes:
        """Returns the block with an object in place of each array that has a value for each column.

        Other lines stay. If this is the first block of the file, an empty line replaces the header.
        """
        lines = block.split(b"\n")
        skipped = not (first and self.header)
        for at, line in enumerate(lines):
            if not line.strip(b" \t\r"):
                continue
            if not skipped:
                lines[at], skipped = b"", True
                continue
            row = _row(line)
            if row is not None and len(row) == len(self.names):
                lines[at] = dumps(dict(zip(self.names, row, strict=True)))
        return b"\n".join(lines)


def array_lines_of(head: bytes, name: str, option: str = "") -> ArrayLines | None:
    """Returns the columns of a file that begins with `head`, or None if its first line is not an array.

    Raises ChoiceNeededError if the first line may be a row or the header. `option` is the value of `--header`.
    """
    whole = head[: head.rfind(b"\n") + 1] or head
    lines = [line for line in whole.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip(b" \t\r")][:_LOOKED]
    rows = [row for row in map(_row, lines) if row is not None]
    if not rows or not rows[0] or _row(lines[0]) is None:
        return None
    stated = table_options.header_of(option, name)
    first = rows[0]
    if stated in ("1", "yes") or (not stated and names_above(rows, name)):
        return ArrayLines(tuple(value if isinstance(value, str) else str(value) for value in first), header=True)
    return ArrayLines(by_place(len(first)), header=False)


def names_above(rows: list[list[Any]], name: str) -> bool:
    """Whether the first row holds the names of the columns: only different strings, above values of other types."""
    first, body = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    if not all(isinstance(value, str) and value for value in first) or len(set(first)) < len(first) or not body:
        return False
    if any(not isinstance(row[at], str) and row[at] is not None for row in body for at in range(len(first))):
        return True
    head = head_of([["" if value is None else str(value) for value in row] for row in (first, *body)])
    if head.doubt is not None:
        raise table_options.header_needed(name, head.doubt.message, ("1", "none"), lines=False)
    return head.header


def _row(line: bytes) -> list[Any] | None:
    if line.lstrip(b" \t\r")[:1] != b"[":
        return None
    try:
        value = checked_loads(line)
    except ValueError:
        return None
    return value if isinstance(value, list) else None
