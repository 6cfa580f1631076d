"""Files of well-known datasets, as they are published, become samples of their kind without a flag."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.json_dialects import JsonDialect
from choline_data.adapters.mapping import forms
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import Wishes, plan_source
from choline_data.errors import ChoiceNeededError, SourceFormatError


def samples_of(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """The kind of the only dataset that the path holds, and its samples."""
    (part,) = plan_source(resolve(str(path)), "x", Wishes()).parts
    found: list[dict[str, Any]] = []
    for shard in part.shards:
        for chunk in part.adapter.read(shard):
            made = forms.apply(part.mapping, chunk, shard)
            assert not made.rejects
            found += made.batch.to_pylist()
    return part.mapping.kind, found


def said(sample: dict[str, Any]) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in sample["turns"]]


def lines(row: Callable[[int], object]) -> str:
    return "".join(json.dumps(row(n)) + "\n" for n in range(8))


ASK = [{"role": "user", "content": "Why?"}]
GOOD, BAD = ([{"role": "assistant", "content": text}] for text in ("Because.", "No."))


@pytest.mark.parametrize(
    ("row", "kind", "turns"),
    [
        ({"prompt": ASK, "completion": GOOD}, "chat", [("user", "Why?"), ("assistant", "Because.")]),
        (
            {"input": {"messages": ASK, "tools": []}, "preferred_output": GOOD, "non_preferred_output": BAD},
            "preference",
            [("user", "Why?"), ("chosen", "Because."), ("rejected", "No.")],
        ),
    ],
)
def test_halves_of_a_conversation_are_one_sample(
    write: Callable[..., Path], row: object, kind: str, turns: list[tuple[str, str]]
) -> None:
    found, samples = samples_of(write("a.jsonl", lines(lambda n: row)))
    assert found == kind
    assert [said(sample) for sample in samples] == [turns] * 8


def test_halves_of_a_conversation_with_a_label_are_judged(write: Callable[..., Path]) -> None:
    path = write("a.jsonl", lines(lambda n: {"prompt": ASK, "completion": GOOD, "label": n % 2 == 0}))
    kind, samples = samples_of(path)
    assert kind == "preference"
    assert [said(s) for s in samples] == [[("user", "Why?"), ("assistant", "Because.")]] * 8
    assert [s["label"][0]["name"] for s in samples] == ["true", "false"] * 4


def test_of_several_conversations_in_a_row_none_is_guessed(write: Callable[..., Path]) -> None:
    path = write("a.jsonl", lines(lambda n: {"first_try": GOOD, "second_try": BAD}))
    with pytest.raises(ChoiceNeededError, match="all hold turns"):
        samples_of(path)


def test_questions_of_arc_have_their_choices(write: Callable[..., Path]) -> None:
    stem = {
        "stem": "What causes a fever?",
        "choices": [{"text": "a leg", "label": "A"}, {"text": "germs", "label": "B"}],
    }
    kind, samples = samples_of(write("a.jsonl", lines(lambda n: {"id": str(n), "question": stem, "answerKey": "B"})))
    assert kind == "qa"
    assert said(samples[0]) == [("user", "What causes a fever?\nA. a leg\nB. germs"), ("assistant", "B. germs")]


def test_questions_of_mmlu_need_no_header(write: Callable[..., Path]) -> None:
    rows = "".join(f'"What is the capital of France, try {n}?",Rome,Paris,Oslo,Bonn,B\n' for n in range(8))
    kind, samples = samples_of(write("a_test.csv", rows))
    assert kind == "qa"
    assert said(samples[0])[1] == ("assistant", "B. Paris")


def test_sentence_pairs_of_snli_and_multinli_are_classified(write: Callable[..., Path]) -> None:
    labels = ["neutral", "entailment", "contradiction", "-"] * 2
    row = {"sentence1": "A man rides a horse.", "sentence2": "A man is outdoors.", "sentence1_parse": "(ROOT (S x))"}
    kind, samples = samples_of(write("s.jsonl", lines(lambda n: {"gold_label": labels[n], **row})))
    assert (kind, [s["label"][0]["name"] for s in samples]) == ("classification", labels)
    names = [
        "index",
        "promptID",
        "pairID",
        "genre",
        "a_parse",
        "b_parse",
        "sentence1",
        "sentence2",
        "label1",
        "gold_label",
    ]
    table = "".join(
        f'{n}\t{n}\t{n}e\tfiction\t( x )\t( y )\tHe "said it.\tIt is.\tneutral\t{labels[n]}\n' for n in range(8)
    )
    kind, samples = samples_of(write("m.txt", "\t".join(names) + "\n" + table))
    assert (kind, [s["label"][0]["name"] for s in samples]) == ("classification", labels)


def test_lines_of_geojson_are_features(write: Callable[..., Path]) -> None:
    point = {"type": "Point", "coordinates": [1, 2.5]}
    path = write("a.geojsonl", lines(lambda n: {"type": "Feature", "properties": {"name": f"n{n}"}, "geometry": point}))
    kind, samples = samples_of(path)
    assert (kind, len(samples)) == ("tabular", 8)


def test_posts_are_texts_however_short_they_are(write: Callable[..., Path]) -> None:
    comment = {"author": "a", "body": "So true.", "score": 3, "subreddit": "ask", "link_id": "t3_x"}
    assert samples_of(write("RC_2015-01", lines(lambda n: comment)))[0] == "text"
    post = {"title": "A question", "selftext": "Why?", "subreddit": "ask", "score": 3}
    kind, samples = samples_of(write("RS_2015-01.jsonl", lines(lambda n: post)))
    assert (kind, samples[0]["text"]) == ("text", "A question\n\nWhy?")
    row = '<row Id="{}" PostTypeId="1" Score="5" Body="&lt;p&gt;Why?" Title="A question" />'
    kind, samples = samples_of(write("Posts.xml", "<posts>" + "".join(row.format(n) for n in range(8)) + "</posts>"))
    assert (kind, samples[0]["text"]) == ("text", "<p>Why?")


def test_translations_are_pairs_without_one_language(write: Callable[..., Path]) -> None:
    units = "".join(
        f'<trans-unit id="{n}"><source>Yes {n}</source><target>Ja {n}</target></trans-unit>' for n in range(8)
    )
    head = '<xliff version="1.2"><file source-language="en-US" target-language="de"><body>'
    kind, samples = samples_of(write("a.xlf", f"{head}{units}</body></file></xliff>"))
    assert (kind, samples[0]["text"]) == ("text", "Yes 0\nJa 0")
    messages = "".join(f'msgid "Yes {n}"\nmsgstr "Ja {n}"\n\n' for n in range(8))
    kind, samples = samples_of(write("a.po", f'msgid ""\nmsgstr "Language: de\\n"\n\n{messages}'))
    assert (kind, samples[0]["text"]) == ("text", "Yes 0\nJa 0")
    assert "language" not in samples[0]


def test_what_stands_beside_the_turns_of_an_object_is_kept(write: Callable[..., Path]) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": ASK}
    kind, samples = samples_of(write("a.jsonl", lines(lambda n: {"custom_id": str(n), "body": body})))
    assert (kind, said(samples[0])) == ("chat", [("user", "Why?")])
    assert json.loads(samples[0]["extra"])["body"] == {"model": "m", "max_tokens": 5}


DIALECTS: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "mongoexport": (
        "a.json",
        '{"_id":{"$oid":"5f0000000000000000000001"},"n":{"$numberLong":"9007199254740993"},"d":{"$date":"2024-01-01T00:00:00Z"}}\n'
        '{"_id":{"$oid":"5f0000000000000000000002"},"n":{"$numberInt":"2"},"d":{"$date":{"$numberLong":"1704067200000"}}}\n',
        [{"_id": "5f0000000000000000000001", "n": 9007199254740993, "d": "2024-01-01T00:00:00Z"},
         {"_id": "5f0000000000000000000002", "n": 2, "d": "2024-01-01T00:00:00+00:00"}],
    ),
    "mongoexport --jsonArray --pretty": (
        "a.json", '[{\n  "_id": {\n    "$oid": "5f0000000000000000000001"\n  },\n  "x": {"$numberDouble": "0.5"}\n}]\n',
        [{"_id": "5f0000000000000000000001", "x": 0.5}],
    ),
    "rows of MongoDB under a key": (
        "a.json",
        '{"ok": 1, "rows": [{"_id": {"$oid": "5f0000000000000000000001"}}, {"_id": {"$oid": "5f0000000000000000000002"}}]}',
        [{"_id": "5f0000000000000000000001", "ok": 1}, {"_id": "5f0000000000000000000002", "ok": 1}],
    ),
    "bulk request": (
        "a.ndjson", '{"index":{"_index":"b","_id":"1"}}\n{"t":"One"}\n{"create":{}}\n{"t":"Two"}\n',
        [{"_index": "b", "_id": "1", "t": "One"}, {"t": "Two"}],
    ),
    "elasticdump": (
        "a.json", '{"_index":"b","_id":"1","_score":1,"_source":{"t":"One"}}\n',
        [{"_index": "b", "_id": "1", "t": "One"}],
    ),
    "search": (
        "a.json", '{"took": 1, "hits": {"total": {"value": 1}, "hits": [{"_index": "b", "_id": "1", "_source": {"t": "One"}}]}}',
        [{"_index": "b", "_id": "1", "t": "One"}],
    ),
    "BigQuery": (
        "a.json",
        json.dumps({"kind": "bigquery#queryResponse", "totalRows": "1", "schema": {"fields": [
            {"name": "id", "type": "INTEGER"}, {"name": "ok", "type": "BOOLEAN"},
            {"name": "tags", "type": "STRING", "mode": "REPEATED"},
            {"name": "at", "type": "RECORD", "fields": [{"name": "x", "type": "FLOAT"}]}]},
            "rows": [{"f": [{"v": "7"}, {"v": "true"}, {"v": [{"v": "a"}]}, {"v": {"f": [{"v": "0.5"}]}}]}]}),
        [{"id": 7, "ok": True, "tags": ["a"], "at": {"x": 0.5}}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_rows_of_databases_lose_their_wrapping(write: Callable[..., Path], name: str) -> None:
    file, content, truth = DIALECTS[name]
    (part,) = plan_source(resolve(str(write(file, content))), "x", Wishes(as_kind="tabular")).parts
    assert isinstance(part.adapter, JsonDialect)
    rows = [row for chunk in part.adapter.read(part.shards[0]) for row in chunk.batch.to_pylist()]
    assert [{k: v for k, v in row.items() if v is not None} for row in rows] == truth


@pytest.mark.parametrize("action", ["update", "delete"])
def test_a_bulk_request_that_changes_documents_is_refused(write: Callable[..., Path], action: str) -> None:
    changed = [{"index": {"_id": "1"}}, {"t": "One"}, {action: {"_id": "1"}}, {"doc": {"t": "Two"}}]
    path = write("a.ndjson", "".join(json.dumps(line) + "\n" for line in changed))
    with pytest.raises(SourceFormatError, match=action):
        samples_of(path)


def test_replies_of_a_batch_are_turns(write: Callable[..., Path]) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Because."}, "finish_reason": "stop"}
    answer = {"status_code": 200, "body": {"model": "m", "choices": [choice]}}
    kind, samples = samples_of(write("o.jsonl", lines(lambda n: {"id": "b", "custom_id": str(n), "response": answer})))
    assert (kind, said(samples[7])) == ("chat", [("assistant", "Because.")])
    message = {"role": "assistant", "content": [{"type": "text", "text": "Because."}]}
    result = {"type": "succeeded", "message": message}
    kind, samples = samples_of(write("a.jsonl", lines(lambda n: {"custom_id": str(n), "result": result})))
    assert (kind, said(samples[7])) == ("chat", [("assistant", "Because.")])


def test_requests_of_gemini_are_turns(write: Callable[..., Path]) -> None:
    talk = [{"role": "user", "parts": [{"text": "Why?"}]}, {"role": "model", "parts": [{"text": "Because."}]}]
    row = {"systemInstruction": {"parts": [{"text": "Be brief."}]}, "contents": talk}
    kind, samples = samples_of(write("a.jsonl", lines(lambda n: row)))
    assert (kind, said(samples[0])) == ("chat", [("system", "Be brief."), ("user", "Why?"), ("assistant", "Because.")])


class TestJsonDialect(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return JsonDialect("mongodb")

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        rows = ({"_id": {"$oid": f"{n:024x}"}, "n": {"$numberInt": str(n)}} for n in range(5000))
        return [source_file(write("a.json", "".join(json.dumps(row) + "\n" for row in rows) + "not JSON\n"))]
