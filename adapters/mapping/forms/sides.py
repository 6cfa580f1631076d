"""Fills the columns that accompany the content: licence, language, URL and time."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from choline_data.adapters.mapping.extra import TEXT, is_json, is_text, json_text
from choline_data.adapters.mapping.forms.fields import Fields
from choline_data.columns.arrow_values import constant, fill_nulls

ROLES = ("license", "language", "url", "time")

ISO = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
# The only notation in which a stored time is written back: whole seconds in UTC.
_EXACT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"
_UTC = pa.timestamp("us", tz="UTC")


def fill(fields: Fields) -> None:
    """Fills the side columns that the mapping names. Values that these cannot hold exactly also stay in `extra`."""
    for role in ("license", "language", "url"):
        for name in fields.names(role)[:1]:
            column, kind = fields.column(name)
            if is_text(column.type) and not is_json(kind):
                fields.made.columns[role] = column.cast(pa.string())
            else:
                fields.made.columns[role] = fields.text(name).cast(pa.string())
                fields.made.kept.add(name)
    for name in fields.names("time")[:1]:
        _time(fields, name)


def _time(fields: Fields, name: str) -> None:
    column, kind = fields.column(name)
    output = fields.made
    if pa.types.is_timestamp(column.type) and column.type.tz == "UTC" and column.type.unit != "ns":
        output.columns["time"] = column.cast(_UTC)
        if column.type.unit != "us":
            output.kept.add(name)
        return
    if pa.types.is_timestamp(column.type):
        output.columns["time"] = (
            column if column.type.tz else column.cast(pa.timestamp(column.type.unit, "UTC"))
        ).cast(_UTC, safe=False)
        output.kept.add(name)
        return
    if pa.types.is_date(column.type):
        output.columns["time"] = column.cast(pa.timestamp("us")).cast(_UTC)
        output.kept.add(name)
        return
    if not is_text(column.type) or is_json(kind):
        output.columns["time"] = pa.nulls(fields.rows, _UTC)
        output.kept.add(name)
        return
    text = column.cast(TEXT)
    if _all_exact(text) and not text.null_count:
        times = _cast(text, _UTC)
        if not times.null_count:  # the usual case: nothing needs to stay in `extra`
            output.columns["time"] = times
            return
    times = parse_times(text)
    output.columns["time"] = times
    # A value that would not be written back identically stays in `extra`. This is decided for each row, so that the result
    # does not depend on the chunk's bounds.
    exact = fill_nulls(pc.and_(pc.match_substring_regex(text, _EXACT), pc.is_valid(times)), False)
    if "." not in name and name not in output.kept:
        left = pc.if_else(exact, constant(None, TEXT), json_text(column, kind))
        output.rest[name] = left


def parse_times(text: pa.Array) -> pa.Array:
    """Converts ISO 8601 text to UTC times. A time without a zone is taken as UTC. Any other text becomes null; no row
    raises an error.
    """
    if _all_exact(text):
        return _cast(text, _UTC)  # the usual case; takes a third of the time
    fits = fill_nulls(pc.match_substring_regex(text, ISO), False)
    text = pc.if_else(fits, text, constant(None, TEXT))
    zoned = fill_nulls(pc.match_substring_regex(text, r"[0-9](Z|[+-][0-9]{2}:?[0-9]{2})$"), False)
    # A plain date may also end in "-18". This is a zone only if there is a time before it.
    zoned = pc.and_(zoned, fill_nulls(pc.match_substring(text, ":"), False))
    bare = pc.if_else(zoned, constant(None, TEXT), text)
    with_zone = pc.if_else(zoned, text, constant(None, TEXT))
    return pc.coalesce(_cast(with_zone, _UTC), _cast(bare, pa.timestamp("us")).cast(_UTC))


def _all_exact(text: pa.Array) -> bool:
    return bool(pc.all(pc.match_substring_regex(text, _EXACT)).as_py())


def _cast(text: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return text.cast(pa.string()).cast(kind)
    except pa.ArrowInvalid:
        # One impossible date (31 February) makes the whole cast fail, so each row is cast on its own.
        return pa.concat_arrays([_cast_one(text.slice(i, 1), kind) for i in range(len(text))])


def _cast_one(text: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return text.cast(pa.string()).cast(kind)
    except pa.ArrowInvalid:
        return pa.nulls(1, kind)
