"""Compares a row of the source with the sample that was stored for it.

A value in `extra` has to equal the source's value. A value that the mapping uses has to be found in the sample: as the text, in
the turns, the labels, the media or the side columns. What the sample says has to be found in the source's row.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from choline_data.adapters.mapping.inline_media import medium_in_text
from choline_data.adapters.reading.table_head import MISSING
from choline_data.catalog.self_check.source_row import Pixels, SourceRow

MIN_CHARS = 8  # shorter words of a mapped value are not compared, because roles such as "human" are renamed
COVERED = 0.7  # the share of a transcript's text that the turns have to contain
_TRUE, _FALSE = frozenset({"true", "True", "TRUE"}), frozenset({"false", "False", "FALSE"})
_ANSWERS = {True: ("yes", "true"), False: ("no", "false")}  # how an answer that is a boolean is written
_MARK = re.compile(r"[<\[#]|(human|user|assistant|system|question|answer|instruction|response|bot|gpt)", re.IGNORECASE)
_WHOLE = ("document", "classification")  # forms whose text is exactly the value of one column


def difference(row: SourceRow, sample: Mapping[str, Any], fields: Mapping[str, str]) -> str:
    """Returns how the sample differs from the source's row, in words; "" if there is no difference.

    `fields` are the mapping's roles by column.
    """
    extra = json.loads(sample["extra"]) if sample.get("extra") else {}
    values_stored = [
        value for value in _leaves([{k: v for k, v in sample.items() if k not in _OWN}, extra]) if value != ""
    ]
    mapped = {column.partition(".")[0].partition("[")[0] for column in fields}
    for column, value in row.values.items():
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        if row.named and column not in mapped:
            if column not in extra:
                if not (isinstance(value, str) and value in MISSING):
                    return f"its column {column!r} is not in the sample"
            elif not same(value, extra[column]):
                return f"its column {column!r} is {_shown(value)}, but {_shown(extra[column])} was stored"
        else:
            missing = next((leaf for leaf in _leaves(value) if not _is_in_sample(leaf, values_stored)), None)
            if missing is not None:
                return f"{_shown(missing)} of its column {column!r} is not in the sample"
    return _not_in_source(row, sample, fields) if row.whole else ""


_OWN = ("id", "origin", "extra", "kind", "dataset")


def _not_in_source(row: SourceRow, sample: Mapping[str, Any], fields: Mapping[str, str]) -> str:
    """Returns a part of the sample that is not in the source's row; "" if there is none."""
    leaves = list(_leaves(row.values))
    texts = [leaf for leaf in leaves if isinstance(leaf, str) and leaf]
    texts += [word for leaf in leaves if isinstance(leaf, bool) for word in _ANSWERS[leaf]]
    contents = [turn["content"] for turn in sample.get("turns") or () if turn["content"]]
    contents += [sample["text"]] if sample.get("text") else []
    for content in contents:
        if texts and not any(text in content or content in text for text in texts):
            return f"{_shown(content)} was stored, but is not in the source"
    columns = [column for column, role in fields.items() if role == "text" and column in row.values]
    if row.named and len(columns) == 1 and list(fields.values()).count("text") == 1 and fields.get("") in _WHOLE:
        value = row.values[columns[0]]
        if isinstance(value, str) and value != sample["text"]:
            return f"its column {columns[0]!r} is {_shown(value)}, but the text {_shown(sample['text'])} was stored"
    return ""


def same(value: Any, stored: Any) -> bool:
    """Returns whether a value of the source equals the value that `extra` has for it."""
    if value is None or stored is None:
        return value is stored or (isinstance(value, str) and value in MISSING) or value is None
    if isinstance(value, str) and not isinstance(stored, str):
        return _same_text(value, stored)
    if isinstance(value, bool) or isinstance(stored, bool):
        return value is stored
    if isinstance(value, (int, float)) and isinstance(stored, (int, float)):
        return isinstance(value, int) == isinstance(stored, int) and _same_number(value, stored)
    if isinstance(value, float):
        return not math.isfinite(value)  # NaN and the infinities are written as words
    if isinstance(value, (bytes, bytearray)):
        return not isinstance(stored, dict) or stored.get("$binary") == base64.b64encode(value).decode()
    if isinstance(value, (list, tuple)) and isinstance(stored, list):
        return len(value) == len(stored) and all(map(same, value, stored))
    if isinstance(value, dict) and isinstance(stored, dict):
        return all(same(item, stored.get(str(key))) for key, item in value.items())
    if isinstance(stored, str) and isinstance(value, (dict, list, int)):
        return _parsed(stored) == value or str(value) == stored
    if isinstance(value, Decimal):
        return str(value) == stored or not isinstance(stored, str)
    # dates and similar values, which can be written in several ways
    return value == stored if isinstance(value, str) else True


def _same_number(value: float, stored: float) -> bool:
    """Whether both are the same number. A float of 32 or 16 bits was written with fewer digits than a float of 64 bits has."""
    if value == stored or isinstance(value, int):
        return value == stored
    return any(float(kind(value)) == value == float(kind(stored)) for kind in (np.float32, np.float16))


def _same_text(text: str, stored: Any) -> bool:
    """Returns whether the text of a cell is equal to a stored number or boolean."""
    if isinstance(stored, bool):
        return text in (_TRUE if stored else _FALSE)
    if isinstance(stored, (dict, list)):
        return same(_parsed(text), stored)
    with contextlib.suppress(ValueError):
        return int(text) == stored if isinstance(stored, int) else float(text) == stored
    return text in MISSING


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _leaves(value: Any) -> Iterator[Any]:
    """Yields the values within lists and objects. JSON in a text counts as an object."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str) and value[:1] in ("{", "[") and isinstance(inner := _parsed(value), (dict, list)):
        yield value
        yield from _leaves(inner)
    elif value is not None:
        yield value


def _is_in_sample(leaf: Any, held: list[Any]) -> bool:
    """Returns whether the sample contains this value of a mapped column."""
    if isinstance(leaf, Pixels):
        return any(isinstance(item, bytes) and leaf.are_those_of(item) for item in held)
    if isinstance(leaf, (bytes, bytearray)):
        coded = base64.b64encode(leaf).decode()
        return any(item in (leaf, coded) or (isinstance(item, str) and item.encode() == leaf) for item in held)
    if not isinstance(leaf, str) or len(leaf.strip()) < MIN_CHARS:
        return True
    if any(isinstance(item, bytes) for item in held) and medium_in_text(leaf) in held:
        return True
    texts = [item for item in held if isinstance(item, str)]
    bare = leaf.strip()
    if any(bare in text for text in texts):
        return True
    if isinstance(_parsed(leaf), (dict, list)):
        return True  # compare the values of the list or object one by one
    parts = [text for text in dict.fromkeys(texts) if text in leaf]
    return _is_transcript(leaf, parts) and sum(map(len, parts)) >= COVERED * len(bare)


def _is_transcript(leaf: str, parts: list[str]) -> bool:
    """Returns whether the text consists only of these parts and of marks between them, such as `Human:`."""
    for part in sorted(parts, key=len, reverse=True):
        before, separator, after = leaf.partition(part)
        if separator and after[:1].isalnum():  # a text inside a longer text does not count as a turn
            return False
        leaf = before + after if separator else leaf
    return _MARK.search(leaf) is not None


def _shown(value: Any) -> str:
    return (text if len(text := repr(value)) <= 80 else text[:77] + "…").replace("\n", " ")
