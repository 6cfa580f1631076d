"""Each form fills the documented fields from its source columns, and loses nothing."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from choline_data.adapters.base import Shard, chunk_of
from choline_data.adapters.mapping import Mapping, Normalised, forms
from choline_data.adapters.mapping.forms import FORMS
from choline_data.errors import InvalidOptionError, MissingFieldError
from choline_data.schema import STORED

JSON = {b"json": b"1"}


def apply(form: str, fields: dict[str, Any], rows: list[dict[str, Any]] | pa.RecordBatch) -> Normalised:
    batch = rows if isinstance(rows, pa.RecordBatch) else pa.RecordBatch.from_pylist(rows)
    pairs = [(r, c) for r, names in fields.items() for c in (names if isinstance(names, list) else [names])]
    mapping = Mapping("text", form, tuple(pairs))
    made = forms.apply(mapping, chunk_of(batch, 0), Shard("part.jsonl", "part.jsonl"))
    made.batch.validate(full=True)
    assert tuple(made.batch.schema.names) == forms.columns(mapping)
    assert all(field.type == STORED.field(field.name).type for field in made.batch.schema)
    return made


def turns(made: Normalised) -> list[list[tuple[str, str]]]:
    return [[(t["role"], t["content"]) for t in row] for row in made.batch["turns"].to_pylist()]


def extra(made: Normalised) -> list[Any]:
    return [None if row is None else json.loads(row) for row in made.batch["extra"].to_pylist()]


def test_a_document_keeps_its_other_columns_and_rejects_null_but_not_empty() -> None:
    made = apply("document", {"text": "body"}, [{"body": "a", "n": 1}, {"body": None, "n": 2}, {"body": "", "n": 3}])
    assert made.batch["text"].to_pylist() == ["a", ""]
    assert extra(made) == [{"n": 1}, {"n": 3}]
    assert [(r.file, r.row, r.reason) for r in made.rejects] == [("part.jsonl", 1, "body is null")]
    assert made.keep is not None
    assert made.keep.to_pylist() == [True, False, True]


def test_a_missing_column_says_which_there_are() -> None:
    with pytest.raises(MissingFieldError, match=r"part\.jsonl has no field 'text'; it has a, b"):
        apply("document", {"text": "text"}, [{"a": 1, "b": 2}])


def test_an_unknown_form_names_those_there_are() -> None:
    with pytest.raises(InvalidOptionError, match="document"):
        apply("poem", {}, [{"a": 1}])


def test_a_time_leaves_extra_only_where_it_is_written_back_the_same() -> None:
    dates = ["2013-05-18T05:48:54Z", "2013-05-18", "2013-05-18T05:48:54+02:00", "2013-02-31", "May 2013"]
    made = apply("document", {"text": "t", "time": "d"}, [{"t": "x", "d": d} for d in dates])
    assert extra(made) == [None, *({"d": d} for d in dates[1:])]
    assert [t and t.isoformat() for t in made.batch["time"].to_pylist()] == [
        "2013-05-18T05:48:54+00:00", "2013-05-18T00:00:00+00:00", "2013-05-18T03:48:54+00:00", None, None,
    ]  # fmt: skip


def test_messages_keep_what_a_turn_has_no_place_for() -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": '{"a":1}'}}
    talk = [
        {"role": "user", "content": "Hi", "name": "Bo", "tool_calls": None},
        {"role": "assistant", "content": None, "name": None, "tool_calls": [call]},
    ]
    made = apply("messages", {"messages": "m"}, [{"m": talk}, {"m": talk[:1]}])
    assert turns(made)[0] == [
        ("user", "Hi"), ("assistant", '<tool_call>\n{"name":"f","arguments":{"a":1}}\n</tool_call>')
    ]  # fmt: skip
    assert extra(made) == [
        {"m": [{"name": "Bo"}, {"tool_calls": [call], "content": None}]},
        {"m": [{"name": "Bo"}]},
    ]


def test_content_in_parts_becomes_its_texts_and_stays_in_extra() -> None:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "u"}}]
    cell = json.dumps([{"role": "user", "content": parts}])
    schema = pa.schema([pa.field("m", pa.large_string(), metadata=JSON)])
    made = apply(
        "messages",
        {"messages": "m"},
        pa.RecordBatch.from_arrays([pa.array([cell], pa.large_string())], schema=schema),
    )
    assert turns(made) == [[("user", "What is this?")]]
    assert extra(made) == [{"m": [{"content": parts}]}]


def test_columns_and_rows_give_the_same_turns() -> None:
    talks = [
        [
            {"from": "human", "value": "a"},
            {"from": "function_call", "value": "{}"},
            {"from": "observation", "value": "1"},
        ],
        [{"from": "human", "value": "b"}, {"from": "gpt", "value": "c"}],
    ]
    fast = apply("sharegpt", {"messages": "m"}, [{"m": t} for t in talks])
    schema = pa.schema([pa.field("m", pa.large_string(), metadata=JSON)])
    cells = pa.array([json.dumps(t) for t in talks], pa.large_string())
    slow = apply("sharegpt", {"messages": "m"}, pa.RecordBatch.from_arrays([cells], schema=schema))
    assert turns(fast) == turns(slow)
    assert extra(fast) == extra(slow) == [{"m": [{}, {"from": "function_call"}, {"from": "observation"}]}, None]


def test_rows_do_not_depend_on_where_a_chunk_ends() -> None:
    rows = [{"p": "q", "c": "x", "r": "y"}, {"p": "q", "c": "\n\nHuman: q\n\nAssistant: x", "r": "y"}]
    whole = apply("preference", {"prompt": "p", "chosen": "c", "rejected": "r"}, rows)
    parts = [apply("preference", {"prompt": "p", "chosen": "c", "rejected": "r"}, [row]) for row in rows]
    assert extra(whole) == [extra(p)[0] for p in parts]
    assert turns(whole) == [turns(p)[0] for p in parts]


def test_a_preference_ends_in_one_chosen_and_one_rejected_turn() -> None:
    made = apply("preference", {"prompt": "p", "chosen": "c", "rejected": "r"}, [{"p": "q", "c": "x", "r": "y"}])
    assert turns(made) == [[("user", "q"), ("chosen", "x"), ("rejected", "y")]]
    assert extra(made) == [None]


def test_whole_transcripts_are_cut_where_they_part() -> None:
    row = {"c": "\n\nHuman: q\n\nAssistant: x", "r": "\n\nHuman: q\n\nAssistant: y"}
    made = apply("preference", {"chosen": "c", "rejected": "r"}, [row])
    assert turns(made) == [[("user", "q"), ("chosen", "x"), ("rejected", "y")]]
    assert extra(made) == [row]


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("labels", 1, "a"),
        ("labels", 0, "b"),
        ("better", 1, "b"),
        ("overall_preference", -2, "a"),
        ("overall_preference", 2, "b"),
    ],
)
def test_a_choice_says_which_reply_was_chosen(name: str, value: int, good: str) -> None:
    row = {"p": "q", "one": "a", "two": "b", name: value}
    made = apply("preference", {"prompt": "p", "chosen": "one", "rejected": "two", "choice": name}, [row])
    assert turns(made)[0][1] == ("chosen", good)


def test_a_tree_gives_its_best_ranked_path_and_stays_whole() -> None:
    leaf = {"text": "worse", "role": "assistant", "rank": 1, "replies": []}
    best = {"text": "better", "role": "assistant", "rank": 0, "replies": []}
    row = {"tree": {"text": "q", "role": "prompter", "rank": None, "replies": [leaf, best]}}
    made = apply("tree", {"tree": "tree"}, [row])
    assert turns(made) == [[("user", "q"), ("assistant", "better")]]
    assert extra(made) == [row]


def test_choices_are_lettered_and_the_right_one_is_the_label() -> None:
    made = apply(
        "multiple_choice",
        {"question": "q", "choices": "c", "answer": "a"},
        [{"q": "?", "c": ["x", "y"], "a": 1}],
    )
    assert turns(made) == [[("user", "?\nA. x\nB. y"), ("assistant", "B. y")]]
    assert made.batch["label"].to_pylist() == [[{"name": "y", "value": "1", "score": None}]]


def test_choices_can_count_from_one() -> None:
    fields = {"question": "q", "choices": ["option1", "option2"], "answer_from_1": "a"}
    made = apply("multiple_choice", fields, [{"q": "?", "option1": "x", "option2": "y", "a": "1"}])
    assert turns(made)[0][1] == ("assistant", "A. x")


def test_a_class_is_called_by_its_name_where_the_schema_has_it() -> None:
    about = {"info": {"features": {"l": {"_type": "ClassLabel", "names": ["neg", "pos"]}}}}
    schema = pa.schema([("t", pa.string()), ("l", pa.int64())], metadata={"huggingface": json.dumps(about)})
    batch = pa.RecordBatch.from_pydict({"t": ["a", "b", "c"], "l": [1, -1, None]}, schema=schema)
    made = apply("classification", {"text": "t", "label": "l"}, batch)
    assert made.batch["label"].to_pylist() == [
        [{"name": "pos", "value": "1", "score": None}], [{"name": "-1", "value": "-1", "score": None}], None
    ]  # fmt: skip


def test_a_picture_is_sniffed_and_keeps_its_bytes_and_path() -> None:
    png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x00\x05\x00\x00\x00\x07\x08\x02\x00\x00\x00"
    made = apply("media", {"media": "i"}, [{"i": {"bytes": png, "path": "a.png"}}, {"i": None}])
    [[medium]] = made.batch["media"].to_pylist()
    assert (medium["mime"], medium["data"], medium["uri"]) == ("image/png", png, "a.png")
    assert (medium["width"], medium["height"]) == (5, 7)
    assert [r.reason for r in made.rejects] == ["i is null"]


def test_a_program_follows_its_prompt_on_a_line_of_its_own() -> None:
    made = apply(
        "code",
        {"prompt": "p", "text": "s"},
        [{"p": "def f():\n", "s": "  pass"}, {"p": "Say hi", "s": "hi()"}],
    )
    assert made.batch["text"].to_pylist() == ["def f():\n  pass", "Say hi\nhi()"]


def test_a_field_within_a_struct_is_found_by_its_path() -> None:
    made = apply("document", {"text": "json.text"}, [{"json": {"text": "a", "n": 1}}])
    assert made.batch["text"].to_pylist() == ["a"]
    assert extra(made) == [{"json": {"text": "a", "n": 1}}]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_takes_no_rows(form: str) -> None:
    empty = pa.RecordBatch.from_pydict({"c": pa.array([], pa.string())})
    fields = dict.fromkeys(FORMS[form].required, "c") or {"text": "c"}
    fields = {} if form == "table" else {**fields, "prompt": "c"} if form == "kto" else fields
    assert apply(form, fields, empty).batch.num_rows == 0
