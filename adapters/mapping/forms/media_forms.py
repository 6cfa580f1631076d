"""The form for images, audio and video. Also fills the `media` column for any other form."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.adapters.mapping.extra import dumps, is_text
from choline_data.adapters.mapping.forms.fields import Fields, parsed
from choline_data.adapters.mapping.inline_media import media_in_turns, medium_in_text
from choline_data.adapters.reading import media as headers
from choline_data.schema import MEDIUM

# In a JPEG the size may follow a thumbnail and a colour profile. No header needs more bytes than this.
HEAD_BYTES = 64 << 10
_BYTES = ("bytes", "data", "content")
_PATHS = ("uri", "path", "url", "file_name", "filename")
_MAY_BE_MEDIUM = r"^(?:data:|[A-Za-z0-9+/\s]{16,}={0,2}\s*$)"
_EXACT = ("mime", "width", "height", "rate")


def media(fields: Fields) -> None:
    """Fills the media, and the text that describes or transcribes them. Rejects rows without media."""
    attach(fields)
    output = fields.made
    lacking = pc.fill_null(pc.equal(pc.list_value_length(output.columns["media"]), 0), True)
    if pc.any(lacking).as_py():
        output.reject(lacking, f"{' and '.join(fields.names('media'))} is null")
    first, *others = fields.names("media")
    if others and all(map(headers.is_companion, others)) and fields.column(first)[0].null_count:
        # otherwise the mask would become the first picture of the sample
        output.reject(pc.is_null(fields.column(first)[0]), f"{first} is null")
    if fields.has("text"):
        output.columns["text"] = fields.joined("text", "\n")


def attach(fields: Fields) -> None:
    """Fills `media` from the columns of that role. The media of several columns follow in the mapping's order."""
    parts = [_one(fields, name) for name in fields.names("media")]
    if len(parts) == 1:
        fields.made.columns["media"] = parts[0]
        return
    lengths = np.stack([pc.fill_null(pc.list_value_length(p), 0).to_numpy(zero_copy_only=False) for p in parts], axis=1)
    starts = np.concatenate([[0], np.cumsum(lengths.T.reshape(-1))])[:-1].reshape(len(parts), -1).T
    take = [np.arange(s, s + n) for s, n in zip(starts.reshape(-1), lengths.reshape(-1), strict=True)]
    values = pa.concat_arrays([p.flatten() for p in parts]).take(pa.array(np.concatenate([np.arange(0), *take])))
    offsets = np.zeros(fields.rows + 1, np.int32)
    np.cumsum(lengths.sum(1), out=offsets[1:])
    fields.made.columns["media"] = pa.ListArray.from_arrays(pa.array(offsets), values, type=pa.list_(MEDIUM))


def _one(fields: Fields, name: str) -> pa.Array:
    column, _ = fields.column(name)
    t = pa.types
    if name in fields.names("messages"):
        return _of_turns(fields, name)
    if t.is_list(column.type) or t.is_large_list(column.type):
        items = column.flatten()
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    else:
        items = column.filter(pc.is_valid(column))
        lengths = pc.is_valid(column).to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = np.zeros(len(column) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), _media(fields, name, items), type=pa.list_(MEDIUM))


def _of_turns(fields: Fields, name: str) -> pa.Array:
    """Returns the media inside the turns of each row. The turns keep their parts in `extra`."""
    column, _ = fields.column(name)
    values = parsed(column) if is_text(column.type) else fields.values(name)
    by_row = [list(media_in_turns(value)) for value in values]
    offsets = np.zeros(len(by_row) + 1, np.int32)
    np.cumsum([len(media) for media in by_row], out=offsets[1:])
    data = pa.array([medium for media in by_row for medium in media], pa.large_binary())
    media = _described(data, pa.nulls(len(data), pa.string()), {})
    return pa.ListArray.from_arrays(pa.array(offsets), media, type=pa.list_(MEDIUM))


def _from_text(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Returns the media that texts hold as base64 or `data:` URIs, and the texts that hold none."""
    if not pc.any(pc.match_substring_regex(column, _MAY_BE_MEDIUM)).as_py():
        return pa.nulls(len(column), pa.large_binary()), column.cast(pa.string())
    # A loop, because Arrow has no base64.
    media_bytes = [None if text is None else medium_in_text(text) for text in column.to_pylist()]
    data = pa.array(media_bytes, pa.large_binary())
    return data, pc.if_else(pc.is_valid(data), pa.scalar(None, pa.string()), column.cast(pa.string()))


def _media(fields: Fields, name: str, items: pa.Array) -> pa.Array:
    """Converts each item to one medium. An item is a struct with bytes and a path, or bytes, or a path or URL."""
    rows = len(items)
    arrays: dict[str, pa.Array] = {}
    data, uri = pa.nulls(rows, pa.large_binary()), pa.nulls(rows, pa.string())
    if pa.types.is_struct(items.type):
        parts = dict(zip([f.name for f in items.type], items.flatten(), strict=True))
        bytes_key = next((k for k in _BYTES if k in parts and not pa.types.is_nested(parts[k].type)), None)
        path_key = next((k for k in _PATHS if k in parts), None)
        if bytes_key:
            data = parts[bytes_key].cast(pa.large_binary())
            if is_text(parts[bytes_key].type):
                data = pc.coalesce(_from_text(parts[bytes_key])[0], data)
        if path_key:
            uri = parts[path_key].cast(pa.string())
        arrays = {k: parts[k] for k in _EXACT if k in parts}
        if "sampling_rate" in parts and pa.types.is_integer(parts["sampling_rate"].type):
            arrays["rate"] = parts.pop("sampling_rate")
        left = [k for k in parts if k not in (bytes_key, path_key, *_EXACT)]
        if any(parts[k].null_count < rows for k in left):
            _leave(fields, name, left)
    elif is_text(items.type):
        data, uri = _from_text(items)
    elif pa.types.is_null(items.type):
        pass
    elif pa.types.is_binary(items.type) or pa.types.is_large_binary(items.type):
        data = items.cast(pa.large_binary())
    else:
        fields.made.kept.add(name)
    return _described(data, uri, arrays)


def _leave(fields: Fields, name: str, keys: list[str]) -> None:
    """Keeps these keys of the struct in `extra`. Works row by row, because the keys are few and their values may have
    any type.
    """
    column, _ = fields.column(name)
    if not pa.types.is_struct(column.type):
        fields.made.kept.add(name)
        return
    parts = [column.flatten()[column.type.get_field_index(k)].to_pylist() for k in keys]
    rows: list[dict[str, Any]] = [
        {k: v for k, v in zip(keys, values, strict=True) if v is not None} for values in zip(*parts, strict=True)
    ]
    fields.made.rest[name] = pa.array([dumps(row) if row else None for row in rows], pa.large_string())


def _described(data: pa.Array, uri: pa.Array, source_values: dict[str, pa.Array]) -> pa.Array:
    """Returns the media with their type and size. Values that the source does not state are read from the first bytes."""
    # Row by row, because each header may have a different format. Copies at most HEAD_BYTES of each medium.
    probes = [headers.probe(head) for head in _heads(data)]
    columns: dict[str, pa.Array] = {
        "mime": pa.array([f.mime or None for f in probes], pa.string()),
        "width": pa.array([f.width or None for f in probes], pa.int32()),
        "height": pa.array([f.height or None for f in probes], pa.int32()),
        "rate": pa.array([f.rate or None for f in probes], pa.int32()),
        "data": data,
        "uri": uri,
    }
    for key, stated in source_values.items():
        columns[key] = pc.coalesce(stated.cast(columns[key].type, safe=False), columns[key])
    return pa.StructArray.from_arrays([columns[f.name] for f in MEDIUM], fields=list(MEDIUM))


def _heads(data: pa.Array) -> list[bytes]:
    if not len(data) or data.null_count == len(data):
        return [b""] * len(data)
    offsets = np.frombuffer(data.buffers()[1], np.int64)[data.offset : data.offset + len(data) + 1]
    view = memoryview(data.buffers()[2])
    return [bytes(view[a : min(b, a + HEAD_BYTES)]) for a, b in itertools.pairwise(offsets)]
