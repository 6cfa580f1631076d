"""Decides whether a text of a few lines is a table. So few lines may look like a table without being one; then the user
is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from choline_data.adapters.reading.csv_dialect import Dialect
from choline_data.adapters.reading.table_head import has_texts_over_numbers, is_number

SURE, UNSURE, NO = "sure", "unsure", "no"
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)»]*$")


def certainty_of_few_lines(text: str, dialect_of: Callable[[], Dialect], *, named: bool) -> str:
    """Returns how certain it is that a text of fewer than five lines is a table. `named` says whether the file name has an
    extension of tables.

    `dialect_of` returns the dialect of the text. It is only called for a text that may be a table, because it takes long.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or not named or any(_SENTENCE_END.search(line) for line in lines):
        return NO
    found = dialect_of()
    delimiter = found.delimiter if len(found.names) > 1 and found.consistent == 1.0 else ""
    if not delimiter:
        rows = [line.split() for line in lines]
        delimiter = " " if len(rows[0]) > 1 and len({len(row) for row in rows}) == 1 else ""
    if not delimiter:
        return NO
    rows = [line.split(None if delimiter == " " else delimiter) for line in lines]
    if len({len(row) for row in rows}) > 1:
        return NO
    first, body = rows[0], rows[1:]
    numbers = all(is_number(cell) for row in rows for cell in row)
    if numbers or has_texts_over_numbers(first, body) or delimiter in "\t|":
        return SURE if len(found.names) > 1 else UNSURE
    if delimiter == " ":
        some = any(all(is_number(row[at]) for row in body) for at in range(len(first)))
        return UNSURE if some else NO
    return UNSURE if delimiter == ";" or not _reads_as_a_sentence(text) else NO


def _reads_as_a_sentence(text: str) -> bool:
    """Returns whether a comma is followed by a blank and a letter, as in a sentence."""
    return re.search(r",\s+[^\W\d_]", text) is not None
