"""The schema (version 1) of every sample of every dataset, and how each kind is rendered as text.

A revision stores only the columns that its mapping fills. The other columns are null for every row and use no storage.
A client can request any column.

Rendering to text (`view="text"`), by kind:

=============== ==========================================================================================
text            `text`
chat            `turns` in ChatML: `<|im_start|>role\\ncontent<|im_end|>\\n` a turn
preference      the turns without the rejected reply (role `rejected`); the chosen reply has the role `assistant`
qa              `text`, else the turns as in chat
classification  `text`, then a line `label: name`
image, audio,   `text` (caption or transcript), else a line `label: name`, else empty
video
tabular         `column: value` lines of `extra`, in the source's column order
annotation      `text`, else a line `name: value` for each label
=============== ==========================================================================================
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

VERSION: Final = 1

KINDS: Final = (
    "text",
    "chat",
    "preference",
    "qa",
    "classification",
    "image",
    "audio",
    "video",
    "tabular",
    "annotation",
)

TURN: Final = pa.struct([pa.field("role", pa.string()), pa.field("content", pa.large_string())])
MEDIUM: Final = pa.struct(
    [
        pa.field("mime", pa.string()),
        pa.field("data", pa.large_binary()),
        pa.field("uri", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("rate", pa.int32()),
    ]
)
LABEL: Final = pa.struct(
    [pa.field("name", pa.string()), pa.field("value", pa.large_string()), pa.field("score", pa.float64())]
)
ORIGIN: Final = pa.struct([pa.field("file", pa.string()), pa.field("row", pa.int64())])

SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("dataset", pa.dictionary(pa.int16(), pa.string()), nullable=False),
        pa.field("kind", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("text", pa.large_string()),
        pa.field("turns", pa.list_(TURN)),
        pa.field("media", pa.list_(MEDIUM)),
        pa.field("label", pa.list_(LABEL)),
        pa.field("extra", pa.large_string()),
        pa.field("license", pa.string()),
        pa.field("language", pa.string()),
        pa.field("url", pa.string()),
        pa.field("time", pa.timestamp("us", tz="UTC")),
        pa.field("origin", ORIGIN),
    ],
    metadata={"choline_data.schema_version": str(VERSION)},
)

# The columns that a store file may have. `dataset` is not stored: it is the catalog's name for the revision. `kind` is
# stored as a plain string, and only if the rows of one revision have different kinds.
STORED: Final = pa.schema(
    [pa.field("kind", pa.string()) if f.name == "kind" else f for f in SCHEMA if f.name != "dataset"]
)
CONTENT_FIELDS: Final = ("text", "turns", "media", "label")


def stored_schema(columns: list[str] | tuple[str, ...]) -> pa.Schema:
    """Returns the schema of a store file with these columns plus `id` and `origin`, in the order of `STORED`."""
    wanted = set(columns) | {"id", "origin"}
    return pa.schema([field for field in STORED if field.name in wanted])
