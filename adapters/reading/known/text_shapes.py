"""Recognises structure in a text that the table of formats does not name: columns, numbers, records of keys and values.

A text is prose, source code or markup if none of these shapes is found. A shape needs several lines that all agree, because
a few lines of prose can look like anything.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

MIN_SHAPE_LINES = 4
MIN_COLUMN_LINES = 8
MIN_TAGGED_LINES = 30
MOST_TAGS = 5
MOST_WORDS = 8
MOST_LINES = 400
_SHARE = 0.9
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?%?$")
_PAIR = re.compile(r"[ \t]*([\w][\w .\-/()]{0,39}?)[ \t]*(=|:)([ \t]+\S|[^:/\s=]|$)")
_HEADER = re.compile(r"([A-Z][\w-]*): \S")
_CODE = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z])\S+$|[-+]?\d[\d.,:/-]*$")
_NUMBERED = re.compile(r"[A-Za-z]+[_-]?\d+")  # read1, chr2, utt_03
_WORD = re.compile(r"[\W_]*[^\W\d_]+(?:[\W]+[^\W\d_]+)*[\W_]*")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)»]*\s*$")


def shape_of(text: str, lines: Sequence[str]) -> str:
    """Returns a description of the structure of a text, or "" for prose. `lines` are those of its lines that are
    neither blank nor comments.
    """
    lines = lines[:MOST_LINES]
    if len(lines) < MIN_SHAPE_LINES:
        return ""
    for shape in (_numbers, _fields_by_tab, _fixed_width, _codes, _tagged_lines):
        name = shape(lines)
        if name:
            return name
    return _headers(text) or _pairs(lines)


def is_prose(lines: Sequence[str]) -> bool:
    """Whether most of the text is words. Used if the name of the file says nothing about its content."""
    text = "\n".join(line for line in lines[:MOST_LINES] if any(map(str.isalnum, line)))
    filled = [c for c in text if not c.isspace()]
    letters = sum(c.isalpha() or unicodedata.category(c).startswith("M") for c in filled)
    words = text.split()
    plain = sum(_WORD.fullmatch(word) is not None for word in words)
    # Chinese, Japanese and Thai have no blanks between words, so there only the letters count.
    spaced = len(words) * 12 > len(filled)
    mostly_words = letters >= 0.75 * len(filled) and (not spaced or plain >= 0.75 * len(words))
    return mostly_words and not _pairs(lines)


def _most(count: int, lines: Sequence[str]) -> bool:
    return count >= _SHARE * len(lines)


def _numbers(lines: Sequence[str]) -> str:
    cells = [line.replace(",", " ").replace(";", " ").split() for line in lines]
    rows = sum(all(_NUMBER.match(cell) for cell in row) for row in cells)
    return "lines of numbers" if _most(rows, lines) else ""


def _fields_by_tab(lines: Sequence[str]) -> str:
    return "fields parted by tabs" if _most(sum("\t" in line.strip() for line in lines), lines) else ""


def _fixed_width(lines: Sequence[str]) -> str:
    """Returns a description if every line has three or more columns at the same places, with blanks between them, else
    "".
    """
    lines = list(dict.fromkeys(lines))
    if len(lines) < MIN_COLUMN_LINES or any("\t" in line for line in lines):
        return ""
    width = sorted(map(len, lines))[len(lines) // 2]
    blank = [50 * sum(line[at : at + 1].isspace() or at >= len(line) for line in lines) >= 49 * len(lines)
             for at in range(width)]  # fmt: skip
    columns = [(at, at + len(run)) for at, run in _runs(blank)]
    filled = [sum(not line[start:end].isspace() and len(line) > start for line in lines) for start, end in columns]
    return "a table of fixed width" if len(columns) > 2 and all(5 * n >= 4 * len(lines) for n in filled) else ""


def _runs(blank: Sequence[bool]) -> list[tuple[int, str]]:
    """Returns (start, run) of the places that are not blank in all lines."""
    marks = "".join(" " if gap else "x" for gap in blank)
    return [(match.start(), match[0]) for match in re.finditer("x+", marks)]


def _codes(lines: Sequence[str]) -> str:
    """Returns a description if most words are numbers or contain digits, else ""."""
    if len(lines) < MIN_COLUMN_LINES:
        return ""
    words = [word for line in lines for word in line.split()]
    coded = sum(_CODE.match(word) is not None for word in words)
    return "records of codes and numbers" if 2 * coded > len(words) else ""


def _tagged_lines(lines: Sequence[str]) -> str:
    """Returns whether the lines look tagged: most of them end in one of a few words, as in a lexicon, or all have
    fields and one field repeats.

    Lines of prose and of verse end in different words.
    """
    rows = [line.split() for line in dict.fromkeys(lines) if not line.startswith(";")]
    even = len(rows) >= MIN_SHAPE_LINES and len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
    columns = list(zip(*rows, strict=True)) if even else []
    if any(all(map(pattern.fullmatch, column)) for column in columns for pattern in (_NUMBER, _NUMBERED)):
        return "fields parted by blanks"
    if len(rows) < MIN_TAGGED_LINES or sum(len(row) for row in rows) > MOST_WORDS * len(rows):
        return ""
    if any(len(row) < 2 for row in rows) and sum(len(row) < 2 for row in rows) * 2 > len(rows):
        return ""
    ends = Counter(row[-1] for row in rows)
    few = sum(count for _, count in ends.most_common(MOST_TAGS))
    if 5 * few >= 3 * len(rows):
        return "fields parted by blanks"
    width, times = Counter(map(len, rows)).most_common(1)[0]
    if width < 2 or 20 * times < 19 * len(rows):
        return ""
    usual = zip(*(row for row in rows if len(row) == width), strict=True)
    coded = any(10 * sum(any(map(str.isdigit, cell)) for cell in column) >= 9 * times for column in usual)
    return "fields parted by blanks" if coded or 10 * len(ends) <= len(rows) else ""


def _headers(text: str) -> str:
    """Returns a first paragraph of `Key: value` lines with at least MIN_SHAPE_LINES different keys, and a text below it."""
    head, blank, body = text.strip().partition("\n\n")
    keys = [match[1] if (match := _HEADER.match(line)) else "" for line in head.split("\n") if not line[:1].isspace()]
    is_header = all(keys) and len(set(keys)) >= MIN_SHAPE_LINES
    return "a block of headers above a text" if is_header and blank and body.strip() else ""


def _pairs(lines: Sequence[str]) -> str:
    matches = [_PAIR.match(line) for line in lines]
    pairs = [match for match in matches if match]
    if not pairs or not _most(len(pairs), lines):
        return ""
    equals = sum(match[2] == "=" for match in pairs)
    if 2 * equals >= len(pairs):
        return "lines of key=value"
    if _is_dialogue(lines, [match[1] for match in pairs]):
        return ""
    return "lines of `key: value`"


def _is_dialogue(lines: Sequence[str], names: Sequence[str]) -> bool:
    """Whether the keys are speakers: a few names that repeat, before sentences."""
    sentences = sum(_SENTENCE_END.search(line) is not None for line in lines)
    return len(set(names)) * 3 <= len(names) and 2 * sentences >= len(lines)
