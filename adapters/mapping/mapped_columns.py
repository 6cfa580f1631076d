"""Describes the columns of the first rows of a source: their names, and the shape of their values."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
import pyarrow as pa

from choline_data.adapters.mapping.extra import is_json, values_of
from choline_data.adapters.mapping.forms.fields import class_names
from choline_data.adapters.mapping.inline_media import data_uri_kind, media_in_turns
from choline_data.adapters.mapping.roles import CONTENT_KEYS, ROLE_KEYS, flat_turns
from choline_data.adapters.reading.media import mime_of

ROWS = 64
_SUFFIX = {
    "image": re.compile(r"\.(jpe?g|png|gif|webp|bmp|tiff?)([?#]|$)", re.IGNORECASE),
    "audio": re.compile(r"\.(wav|mp3|flac|ogg|opus|m4a)([?#]|$)", re.IGNORECASE),
    "video": re.compile(r"\.(mp4|webm|avi|mov|mkv)([?#]|$)", re.IGNORECASE),
}
_OPAQUE = re.compile(r"^(https?://\S+|/?[\w.-]+(/[\w.@ -]+)+|[0-9a-f]{16,}|[A-Za-z0-9+/]{40,}={0,2}|[\w-]{1,64})$")


def plain(name: str) -> str:
    """Returns a column name in lower case with only ASCII letters and digits. The rules compare names in this form."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


@dataclass(frozen=True)
class MappedColumn:
    """A column with some of its values. The values of a JSON column are parsed."""

    name: str
    type: pa.DataType
    values: tuple[Any, ...]
    classes: bool = False

    @cached_property
    def there(self) -> list[Any]:
        """The values that are not null."""
        return [v for v in self.values if v is not None]

    @cached_property
    def is_text(self) -> bool:
        """Whether there are non-null values and all of them are strings."""
        return bool(self.there) and all(isinstance(v, str) for v in self.there)

    @cached_property
    def is_number(self) -> bool:
        """Whether there are non-null values and all of them are numbers. Booleans count as numbers."""
        return bool(self.there) and all(isinstance(v, (int, float)) for v in self.there)

    @cached_property
    def is_bool(self) -> bool:
        """Whether there are non-null values and all of them are booleans."""
        return bool(self.there) and all(isinstance(v, bool) for v in self.there)

    @cached_property
    def length(self) -> float:
        """The mean length of the texts in characters; 0 if the values are not texts."""
        return statistics.fmean(len(v) for v in self.there) if self.is_text else 0.0

    @cached_property
    def distinct(self) -> int:
        """The number of distinct non-null values."""
        return len({repr(v) for v in self.there})

    @cached_property
    def is_prose(self) -> bool:
        """Whether more than half of the texts are prose: no single word, number, path, link, digest or encoded bytes."""
        if not self.is_text:
            return False
        opaque = sum(bool(_OPAQUE.match(v.strip())) for v in self.there)
        return opaque * 2 < len(self.there)

    @cached_property
    def media(self) -> str:
        """One of "image", "audio" and "video", if the first values are bytes of such media or names of such files; else ""."""
        kinds = {medium_of(v) for v in self.there[:8]}
        return kinds.pop() if len(kinds) == 1 else ""

    @cached_property
    def media_bytes(self) -> bool:
        """Whether the column has the media themselves, and not their file names.

        The rules recognise such a column whatever its name is.
        """
        return bool(self.media) and not isinstance(_first(self.there), str)

    @cached_property
    def turns(self) -> str:
        """The shape of the conversations in the values, as `turns_shape` returns it."""
        return turns_shape(self.there)

    @cached_property
    def turns_have_media(self) -> bool:
        """Whether turns of these conversations hold media as text, such as `data:` URIs."""
        return any(next(media_in_turns(_parsed(v)), None) is not None for v in self.there)

    def all_of(self, test: Callable[[Any], bool]) -> bool:
        """Whether there are non-null values and the test is true for each."""
        return bool(self.there) and all(test(v) for v in self.there)


def _first(values: list[Any]) -> Any:
    value = values[0] if values else None
    while isinstance(value, list):
        value = next((v for v in value if v is not None), None)
    return value


def medium_of(value: Any) -> str:
    """Returns "image", "audio" or "video" for a value that is a medium or names one; else ""."""
    if isinstance(value, list):
        value = next((v for v in value if v is not None), None)
    if isinstance(value, dict):
        for key in ("bytes", "data"):
            if isinstance(value.get(key), bytes) and value[key]:
                return medium_of(value[key])
        stated = value.get("mime")
        if isinstance(stated, str) and isinstance(value.get("data"), str) and value["data"]:
            return stated.partition("/")[0] if stated.partition("/")[0] in _SUFFIX else ""
        if {"array", "sampling_rate"} <= value.keys():
            return "audio"
        value = next((value[k] for k in ("path", "uri", "url") if isinstance(value.get(k), str)), None)
    if isinstance(value, bytes):
        mime = mime_of(value)
        return mime.partition("/")[0] if mime.partition("/")[0] in _SUFFIX else ""
    if isinstance(value, str) and data_uri_kind(value):
        return data_uri_kind(value)
    if isinstance(value, str) and len(value) < 2048:
        return next((kind for kind, suffix in _SUFFIX.items() if suffix.search(value.strip())), "")
    return ""


def turns_shape(values: list[Any]) -> str:
    """Returns the shape that all these conversations share, or "" if they differ or are not conversations.

    "messages" for turns with a role and a content, "sharegpt" if the role's key is `from`, "strings" for a list of texts,
    "pairs" for (question, answer) pairs, "replies" for lists of replies under `turns`. Empty lists are ignored.
    """
    shapes = {_turns_of(_parsed(v)) for v in values}
    shapes.discard("empty")
    return shapes.pop() if len(shapes) == 1 else ""


def _turns_of(value: Any) -> str:
    if isinstance(value, dict):
        for key in ("messages", "conversations", "conversation"):
            if isinstance(value.get(key), list):
                return _turns_of(value[key])
        if not {"role", "from"} & value.keys():  # A struct that has only a speaker and a text is not certainly a turn.
            return ""
        value = [value]
    if not isinstance(value, list):
        return ""
    if not value:
        return "empty"
    if all(isinstance(v, str) for v in value):
        return "strings"
    if all(isinstance(v, list) and len(v) == 2 and all(isinstance(s, str) for s in v) for v in value):
        return "pairs"
    value = flat_turns(value)
    if not all(isinstance(v, dict) for v in value):
        return ""
    keys = {k for v in value for k in v}
    role = next((k for k in ROLE_KEYS if k in keys), None)
    if role and any(k in keys for k in CONTENT_KEYS if k != role):
        return "sharegpt" if role == "from" else "messages"
    if {"user", "assistant"} <= keys:
        return "pairs"
    return "replies" if "turns" in keys and _turns_of(value[0].get("turns")) == "strings" else ""


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


class Look:
    """The columns of the first rows of a source (up to about ROWS). The rules look them up by name and by the shape of
    their values.
    """

    def __init__(self, batches: list[pa.RecordBatch]) -> None:
        self.columns: dict[str, MappedColumn] = {}
        values: dict[str, list[Any]] = {}
        kinds: dict[str, tuple[pa.DataType, bool]] = {}
        for batch in batches:
            share = max(1, ROWS // max(1, len(batches)))
            batch = batch.slice(0, share)
            for index, kind in enumerate(batch.schema):
                kinds.setdefault(kind.name, (kind.type, class_names(batch, kind.name) is not None))
                values.setdefault(kind.name, []).extend(_values(batch.column(index), kind))
        for name, (kind_, classes) in kinds.items():
            self.columns[name] = MappedColumn(name, kind_, tuple(values[name]), classes)
        self.plain = {plain(name): name for name in reversed(list(self.columns))}

    def find(self, names: Iterable[str], test: Callable[[MappedColumn], bool] = lambda c: True) -> str:
        """Returns the first column that has one of these names and passes the test, or "".

        `names` are in the form that `plain` returns. A trailing * matches any ending.
        """
        for wanted in names:
            if wanted.endswith("*"):
                hits = [real for key, real in self.plain.items() if key.startswith(wanted[:-1])]
            else:
                hits = [self.plain[wanted]] if wanted in self.plain else []
            for real in hits:
                if test(self.columns[real]):
                    return real
        return ""

    def text(self, *names: str) -> str:
        """Returns the first column that has one of these names and whose values are texts, or ""."""
        return self.find(names, lambda c: c.is_text)

    def has(self, *names: str) -> bool:
        """Whether a column has one of these names."""
        return bool(self.find(names))


def _values(column: pa.Array, kind: pa.Field) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values = values_of(column, kind)
    return [_parsed_json(v) for v in values] if is_json(kind) else values


def _parsed_json(value: Any) -> Any:
    try:
        return None if value is None else orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
