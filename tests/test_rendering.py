"""Every kind of sample is rendered as text, as the table in `schema` specifies."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from choline_data.schema import KINDS, SCHEMA
from choline_data.streams.rendering import render


def batch(*rows: dict[str, Any]) -> pa.RecordBatch:
    names = [name for name in SCHEMA.names if any(name in row for row in rows)]
    schema = pa.schema([SCHEMA.field(name).with_nullable(True) for name in names])
    return pa.RecordBatch.from_pylist(list(rows), schema=schema)


def said(*turns: tuple[str, str | None]) -> dict[str, Any]:
    return {"turns": [{"role": role, "content": content} for role, content in turns]}


def test_a_document_is_its_text() -> None:
    assert render(batch({"text": "a"}, {"text": None}), "text").to_pylist() == ["a", ""]


def test_a_chat_is_chatml() -> None:
    made = render(batch(said(("user", "Hi"), ("assistant", None)), said()), "chat").to_pylist()
    assert made == ["<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n", ""]


def test_a_slice_of_chats_renders_its_own_rows() -> None:
    rows = batch(said(("user", "a")), said(("user", "b")), said(("user", "c"))).slice(1, 1)
    assert render(rows, "chat").to_pylist() == ["<|im_start|>user\nb<|im_end|>\n"]


def test_a_preference_shows_the_chosen_reply_as_the_assistant_and_not_the_rejected_one() -> None:
    rows = batch(said(("user", "q"), ("chosen", "good"), ("rejected", "bad")))
    expected = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\ngood<|im_end|>\n"
    assert render(rows, "preference").to_pylist() == [expected]


def test_a_question_is_its_text_or_its_turns() -> None:
    rows = batch({"text": "t"}, said(("user", "q")))
    assert render(rows, "qa").to_pylist() == ["t", "<|im_start|>user\nq<|im_end|>\n"]


def test_a_label_stands_below_its_text() -> None:
    rows = batch({"text": "nice", "label": [{"name": "positive", "value": "1"}]}, {"text": "so-so", "label": None})
    assert render(rows, "classification").to_pylist() == ["nice\nlabel: positive", "so-so"]


@pytest.mark.parametrize("kind", ["image", "audio", "video"])
def test_media_read_as_caption_else_label_else_nothing(kind: str) -> None:
    rows = batch({"text": "a cat"}, {"label": [{"name": "dog", "value": "3"}]}, {})
    assert render(rows, kind).to_pylist() == ["a cat", "label: dog", ""]


def test_a_table_reads_as_lines_in_the_order_of_its_columns() -> None:
    rows = batch({"extra": '{"b":1,"a":null,"c":[1.5],"d":"x"}'}, {"extra": None})
    assert render(rows, "tabular").to_pylist() == ["b: 1\na: \nc: [1.5]\nd: x", ""]


def test_an_annotation_reads_as_its_labels() -> None:
    rows = batch({"label": [{"name": "18", "value": "[1,2]"}, {"name": "x", "value": None}]}, {"text": "t"})
    assert render(rows, "annotation").to_pylist() == ["18: [1,2]\nx", "t"]


def test_rows_of_several_kinds_stay_in_order() -> None:
    rows = batch({"kind": "text", "text": "a"}, {"kind": "tabular", "extra": '{"k":1}'}, {"kind": "text", "text": "b"})
    assert render(rows).to_pylist() == ["a", "k: 1", "b"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_renders_even_without_a_column_of_its_own(kind: str) -> None:
    rows = pa.RecordBatch.from_pydict({"id": [b"0" * 16]})
    assert render(rows, kind).to_pylist() == [""]
    assert render(rows.slice(0, 0), kind).to_pylist() == []
