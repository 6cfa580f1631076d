"""Forms for a single text: documents, code, parallel texts, labelled tokens, annotations and tables."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.adapters.mapping.extra import TEXT, concat, json_text
from choline_data.adapters.mapping.forms.fields import Fields, class_names
from choline_data.schema import LABEL


def document(fields: Fields) -> None:
    """Fills one text for each row. An empty text is an empty document (wikitext has many). Rejects a null text."""
    fields.made.columns["text"] = fields.require(fields.joined("text", "\n\n"), _what(fields, "text"))


def code(fields: Fields) -> None:
    """Fills the text with the program. If there is a prompt, it comes first, and the program starts on a new line after it."""
    text = fields.require(fields.joined("text", "\n\n"), _what(fields, "text"))
    if fields.has("prompt"):
        prompt = fields.require(fields.joined("prompt", "\n\n"), _what(fields, "prompt"))
        fields.made.kept.update([*fields.names("prompt"), *fields.names("text")])
        between = pc.if_else(pc.ends_with(prompt, "\n"), pa.scalar("", TEXT), pa.scalar("\n", TEXT))
        text = concat(prompt, between, text)
    fields.made.columns["text"] = text


def parallel(fields: Fields) -> None:
    """Joins the same content in several languages, one per line. The languages of a struct keep the struct's order."""
    names = fields.names("text")
    column, _ = fields.column(names[0])
    fields.made.kept.update(names)
    if len(names) == 1 and pa.types.is_struct(column.type):
        parts = pa.RecordBatch.from_arrays(column.flatten(), [f.name for f in column.type])
        inner = Fields([("text", f.name) for f in column.type], parts, "")
        text = inner.joined("text", "\n")
    else:
        text = fields.joined("text", "\n")
    fields.made.columns["text"] = fields.require(text, _what(fields, "text"))


def table(fields: Fields) -> None:
    """Fills no column: every source column stays in `extra`."""


def token_labels(fields: Fields) -> None:
    """Fills the text with the tokens, separated by blanks, and one label for each token: `name` is the tag, `value` the token."""
    tokens, tags = fields.names("tokens")[0], fields.names("tags")[0]
    fields.made.kept.update([tokens, tags])
    classes = class_names(fields.batch, tags) or []
    texts: list[str | None] = []
    labels: list[Any] = []
    uneven = []
    for words, marks in zip(fields.values(tokens), fields.values(tags), strict=True):
        good = isinstance(words, list) and isinstance(marks, list) and len(words) == len(marks)
        uneven.append(not good)
        texts.append(" ".join(map(str, words)) if good else None)
        labels.append(
            [{"name": _tag(m, classes), "value": str(w)} for w, m in zip(words, marks, strict=True)] if good else None
        )
    fields.made.reject(pa.array(uneven), f"{tokens} and {tags} are not lists of one length")
    fields.made.columns["text"] = pa.array(texts, TEXT)
    fields.made.columns["label"] = pa.array(labels, pa.list_(LABEL))


def _tag(mark: Any, classes: list[str]) -> str:
    return classes[mark] if isinstance(mark, int) and 0 <= mark < len(classes) else str(mark)


def annotation(fields: Fields) -> None:
    """Fills one label for each row: `name` is the category, `value` the box, mask or result as JSON, `score` the score if any."""
    output = fields.made
    if fields.has("text"):
        output.columns["text"] = fields.joined("text", "\n\n")
    names = fields.text(fields.names("name")[0]) if fields.has("name") else None
    values = []
    for column in fields.names("value"):
        array, kind = fields.column(column)
        values.append((column, json_text(array, kind)))
    if fields.has("name"):
        output.kept.add(fields.names("name")[0])
    output.kept.update(column for column, _ in values)
    scores = None
    if fields.has("score"):
        column, _ = fields.column(fields.names("score")[0])
        scores = column.cast(pa.float64(), safe=False) if pa.types.is_primitive(column.type) else None
        output.kept.add(fields.names("score")[0])
    if names is None and not values:
        return
    if len(values) == 1:
        value = values[0][1]
    elif values:
        parts: list[pa.Array | str] = []
        for i, (column, text) in enumerate(values):
            parts += [("," if i else "{") + orjson.dumps(column).decode() + ":", text]
        value = concat(*parts, "}")
    else:
        value = pa.nulls(fields.rows, TEXT)
    called = (names if names is not None else pa.array([values[0][0]] * fields.rows)).cast(pa.string())
    labels = pa.StructArray.from_arrays(
        [called, value, scores if scores is not None else pa.nulls(fields.rows, pa.float64())],
        fields=list(LABEL),
    )
    offsets = pa.array(range(fields.rows + 1), pa.int32())
    output.columns["label"] = pa.ListArray.from_arrays(offsets, labels, type=pa.list_(LABEL))


def _what(fields: Fields, role: str) -> str:
    return " and ".join(fields.names(role)) or role
