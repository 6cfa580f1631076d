"""Reads lists with several values for each medium: attributes of CelebA, classes of CUB, boxes.

Such a list names a medium by its path or, if another list numbers the media (`1 001.Albatross/a.jpg` in CUB), by a number. The
names of its columns stand in its first lines, as in CelebA, or else are those of the list with a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from choline_data.adapters.reading.media_paths import path_of
from choline_data.adapters.reading.names import parts
from choline_data.adapters.reading.table_head import is_number

SHARE = 0.9  # of the media that a list names, this share has to be there
_SPLITS = {"0": "train", "1": "validation", "2": "test"}
_PARTITION = re.compile(r"partition|split", re.IGNORECASE)
_CLASSES = re.compile(r"class|label", re.IGNORECASE)
MAX_LINES = 5_000_000
PARTITION = "partition"
MOST_ABOVE = 2

Pair = tuple[str, dict[str, Any]]


def numbered_media(lines: Sequence[str], stems: Mapping[str, Any] | set[str], share: float = SHARE) -> dict[str, str]:
    """Returns the media by their numbers, if each line is a number and a path. Empty if less than this share are known media."""
    rows = [line.split(None, 1) for line in lines]
    if not rows or any(len(row) != 2 or not row[0].isdigit() for row in rows):
        return {}
    known = {number: path.strip() for number, path in rows if _is_known(path, stems)}
    return known if len(known) >= share * len(rows) and len(known) == len(set(known.values())) else {}


def columns_of(
    lines: Sequence[str],
    name: str,
    stems: Mapping[str, Any] | set[str],
    numbers: Mapping[str, str],
    share: float = SHARE,
) -> list[Pair] | None:
    """Returns the values of each known medium, if the lines have several numbers or codes behind the names of media.

    A list with one value for each medium is read here only if it has numbers for the media, or is named a partition. None if
    the lines have another form, or if less than `share` of the names are known.
    """
    rows = [line.split() for line in lines[:MAX_LINES]]
    known = next((at for at, row in enumerate(rows) if _medium(row[0], stems, numbers)), -1)
    if known < 0:
        return None
    width = len(rows[known]) - 1
    first = known
    while first and _is_body(rows[first - 1], width):
        first -= 1
    body = rows[first:]
    if width < 1 or first > MOST_ABOVE or len(body) < 2 or not all(_is_body(row, width) for row in body):
        return None
    media = [_medium(row[0], stems, numbers) for row in body]
    found = [medium for medium in media if medium]
    if len(found) < share * len(body) or len(set(found)) < len(found):
        return None
    by_number = rows[known][0] in numbers and not _is_known(rows[known][0], stems)
    if width == 1 and not by_number and not _PARTITION.search(parts(name)[-1]):
        return None
    names = _names(rows[:first], width, name)
    pairs = [
        (medium, {key: _value(cell) for key, cell in zip(names, row[1:], strict=True)})
        for medium, row in zip(media, body, strict=True)
        if medium
    ]
    return _as_partition(name, pairs)


def _is_body(row: Sequence[str], width: int) -> bool:
    """Whether a line has a name and so many numbers. The first value may be a code."""
    return len(row) == width + 1 and all(map(is_number, row[2 if width > 1 and not is_number(row[1]) else 1 :]))


def states_classes(name: str, pairs: Sequence[Pair]) -> bool:
    """Returns whether a list has one whole number for each medium, and is named a list of classes or labels."""
    one = all(len(row) == 1 and type(next(iter(row.values()))) is int for _, row in pairs)
    return one and bool(_CLASSES.search(parts(name)[-1]))


def names_classes_of(name: str) -> bool:
    """Returns whether a list is named a list of the names of classes."""
    return bool(re.match(r"class(?:es|_?names?)?\b", parts(name)[-1], re.IGNORECASE))


def _as_partition(name: str, pairs: list[Pair]) -> list[Pair]:
    """Returns the pairs with the split in place of 0, 1 and 2, or of 1 and 0, if the list is named a partition or a split."""
    last = parts(name)[-1].lower()
    values = {str(value) for _, row in pairs for value in row.values()}
    if not _PARTITION.search(last) or any(len(row) != 1 for _, row in pairs) or not values <= set(_SPLITS):
        return pairs
    # CUB's `train_test_split.txt` says whether a picture is for training.
    splits = {"1": "train", "0": "test"} if "train" in last and values <= {"0", "1"} else _SPLITS
    return [(medium, {PARTITION: splits[str(next(iter(row.values())))]}) for medium, row in pairs]


def with_class_names(pairs: list[Pair], lists: Sequence[Sequence[str]]) -> list[Pair]:
    """Returns the pairs with a label, if each has one number of a class.

    A list of numbers and names, such as `1 001.Black_footed_Albatross`, names the classes.
    """
    values = {str(value) for _, row in pairs for value in row.values()}
    names: dict[str, str] = {}
    for lines in lists:
        rows = [line.split(None, 1) for line in lines]
        if all(len(row) == 2 and row[0].isdigit() for row in rows) and values <= {row[0] for row in rows}:
            names = names or {number: text.strip() for number, text in rows}
    stated = ((medium, str(next(iter(row.values())))) for medium, row in pairs)
    return [(medium, {"label": names.get(value, value)}) for medium, value in stated]


def _medium(word: str, stems: Mapping[str, Any] | set[str], numbers: Mapping[str, str]) -> str:
    return word if _is_known(word, stems) else numbers.get(word, "")


def _is_known(word: str, stems: Mapping[str, Any] | set[str]) -> bool:
    path = path_of(word)
    return bool(path) and path[-1] in stems


def _names(above: Sequence[Sequence[str]], width: int, name: str) -> list[str]:
    """Returns the names of the columns: those above the values, or the name of the list, with numbers if there are several."""
    for row in above[::-1]:
        named = list(row[-width:])
        if len(row) in (width, width + 1) and not any(map(is_number, named)) and len(set(named)) == width:
            return named
    stem = re.sub(r"\W+", "_", parts(name)[-1].rpartition(".")[0] or parts(name)[-1])
    return [stem] if width == 1 else [f"{stem}_{at}" for at in range(1, width + 1)]


def _value(cell: str) -> Any:
    return int(cell) if re.fullmatch(r"-?\d{1,18}", cell) else float(cell) if is_number(cell) else cell
