"""Renders samples of every kind as text, for `view="text"`. Works on whole columns.

The docstring of `schema` has the rules for each kind. Turns are rendered as ChatML.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.errors import InvalidOptionError
from choline_data.schema import KINDS

_TEXT: Final = pa.large_string()


# The text before and after each turn. `{role}` is the role of the turn.
_BEFORE: Final = "<|im_start|>{role}\n"
_AFTER: Final = "<|im_end|>\n"


def render(batch: pa.RecordBatch, kind: str = "") -> pa.Array:
    """Returns the samples of `batch` as text: one large_string per row, never null.

    `kind` is the kind of every row. If it is empty, the batch's `kind` column is used. A column that the batch does not
    have is treated as null.
    """
    if kind:
        return _renderer(kind)(batch)
    index = batch.schema.get_field_index("kind")
    if index < 0:
        raise InvalidOptionError(
            "The batch has no column 'kind'.", remedy="Ask for it, or say which kind its rows are."
        )
    kinds = batch.column(index)
    if pa.types.is_dictionary(kinds.type):
        kinds = kinds.dictionary_decode()
    present = pc.unique(kinds).to_pylist()
    if len(present) == 1:
        return _renderer(present[0])(batch)
    # Render the rows of each kind together, then restore the order of the rows.
    texts, places = [], []
    for one in present:
        rows = np.flatnonzero(pc.equal(kinds, one).to_numpy(zero_copy_only=False))
        texts.append(_renderer(one)(batch.take(pa.array(rows))))
        places.append(rows)
    if not texts:
        return pa.array([], _TEXT)
    return pa.concat_arrays(texts).take(pa.array(np.argsort(np.concatenate(places), kind="stable")))


def _renderer(kind: str | None) -> Callable[[pa.RecordBatch], pa.Array]:
    if kind not in _RENDERERS:
        raise InvalidOptionError(f"No kind {kind!r}.", remedy=f"There are: {', '.join(KINDS)}.")
    return _RENDERERS[kind]


def _column(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    index = batch.schema.get_field_index(name)
    return batch.column(index) if index >= 0 else None


def _text(batch: pa.RecordBatch) -> pa.Array:
    column = _column(batch, "text")
    return pa.nulls(batch.num_rows, _TEXT) if column is None else column.cast(_TEXT)


def _filled(text: pa.Array) -> pa.Array:
    return pc.fill_null(text, pa.scalar("", _TEXT)) if text.null_count else text


def _render_text(batch: pa.RecordBatch) -> pa.Array:
    return _filled(_text(batch))


def _render_turns(batch: pa.RecordBatch) -> pa.Array:
    return _filled(_turns(batch, preference=False))


def _render_preference(batch: pa.RecordBatch) -> pa.Array:
    return _filled(_turns(batch, preference=True))


def _turns(batch: pa.RecordBatch, *, preference: bool) -> pa.Array:
    """Returns each row's turns (messages of a chat) as text; null for a row without turns."""
    column = _column(batch, "turns")
    if column is None or not len(column):
        return pa.nulls(batch.num_rows, _TEXT)
    turns = column.flatten()
    roles, contents = turns.field("role"), _filled(turns.field("content"))
    role_names = roles.dictionary_encode()
    names = [name or "user" for name in role_names.dictionary.to_pylist()]
    if role_names.null_count:
        role_names = pc.fill_null(roles, "user").dictionary_encode()
        names = role_names.dictionary.to_pylist()
    shown = ["assistant" if preference and name == "chosen" else name for name in names]
    before = _around(_BEFORE, shown).take(role_names.indices)
    after = _around(_AFTER, shown).take(role_names.indices)
    texts = pc.binary_join_element_wise(before, contents, after, pa.scalar("", _TEXT))
    if preference and "rejected" in names:
        texts = pc.if_else(pc.equal(roles, "rejected"), pa.scalar("", _TEXT), texts)
    return _join_lists(column, texts, "")


def _around(pattern: str, roles: list[str]) -> pa.Array:
    return pa.array([pattern.replace("{role}", role) for role in roles], _TEXT)


def _join_lists(lists: pa.Array, values: pa.Array, separator: str) -> pa.Array:
    """Returns, for each list, its texts joined with `separator`; null if the list is null or empty."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    rows = pc.binary_join(pa.LargeListArray.from_arrays(pa.array(offsets), values), pa.scalar(separator, _TEXT))
    return pc.if_else(pa.array(lengths > 0), rows, pa.scalar(None, _TEXT))


def _label_lines(batch: pa.RecordBatch, *, named: bool) -> pa.Array:
    """Returns each row's labels as lines: `name: value` if `named`, else `label: name`. Null for a row without labels."""
    column = _column(batch, "label")
    if column is None:
        return pa.nulls(batch.num_rows, _TEXT)
    labels = column.flatten()
    names, values = labels.field("name").cast(_TEXT), labels.field("value")
    names = _filled(names)
    if named:
        # A label without a value is its name alone.
        line = pc.binary_join_element_wise(names, values, pa.scalar(": ", _TEXT))
        lines = pc.coalesce(line, names)
    else:
        lines = pc.binary_join_element_wise(pa.scalar("label: ", _TEXT), names, pa.scalar("", _TEXT))
    return _join_lists(column, lines, "\n")


def _render_classification(batch: pa.RecordBatch) -> pa.Array:
    text, labels = _filled(_text(batch)), _label_lines(batch, named=False)
    both = pc.binary_join_element_wise(text, labels, pa.scalar("\n", _TEXT))
    return pc.coalesce(both, text)


def _render_qa(batch: pa.RecordBatch) -> pa.Array:
    return pc.coalesce(_text(batch), _turns(batch, preference=False), pa.scalar("", _TEXT))


def _render_media(batch: pa.RecordBatch) -> pa.Array:
    return pc.coalesce(_text(batch), _label_lines(batch, named=False), pa.scalar("", _TEXT))


def _render_annotation(batch: pa.RecordBatch) -> pa.Array:
    return pc.coalesce(_text(batch), _label_lines(batch, named=True), pa.scalar("", _TEXT))


def _render_tabular(batch: pa.RecordBatch) -> pa.Array:
    column = _column(batch, "extra")
    if column is None:
        return _render_text(batch)
    # This loops over rows, because keys differ between rows and each value has to be parsed as JSON.
    return pa.array([_lines(value) for value in column.to_pylist()], _TEXT)


def _lines(extra: str | None) -> str:
    if not extra:
        return ""
    row: dict[str, Any] = orjson.loads(extra)
    return "\n".join(f"{name}: {_cell(value)}" for name, value in row.items())


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()


_RENDERERS: Final[dict[str | None, Callable[[pa.RecordBatch], pa.Array]]] = {
    "text": _render_text,
    "chat": _render_turns,
    "preference": _render_preference,
    "qa": _render_qa,
    "classification": _render_classification,
    "image": _render_media,
    "audio": _render_media,
    "video": _render_media,
    "tabular": _render_tabular,
    "annotation": _render_annotation,
}
