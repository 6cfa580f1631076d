"""JSON documents: where the rows are."""

import json

import pytest

from choline_data.adapters import json_document
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.json_document import JsonDocument
from choline_data.errors import SourceDamagedError, SourceTooLargeError


class TestContract(AdapterContract):
    @pytest.fixture
    def adapter(self):
        return JsonDocument()

    @pytest.fixture
    def files(self, write, source_file):
        rows = [{"n": n, "text": f"row {n}", "tags": ["a"] * (n % 3)} for n in range(9000)]
        return [
            source_file(write("a.json", json.dumps(rows))),
            source_file(write("b.json", json.dumps({"canary": "x", "examples": [*rows[:50], "odd", *rows[50:60]]}))),
        ]


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 2}]),
        ([], []),
        (["x", "y"], [{"value": "x"}, {"value": "y"}]),
        (
            {"canary": "c", "examples": [{"a": 1}, {"a": 2}]},
            [{"a": 1, "canary": "c"}, {"a": 2, "canary": "c"}],
        ),
        ({"a": "above", "rows": [{"a": 1}]}, [{"a": 1, "document.a": "above"}]),
        ({"about": "c", "words": ["x", "y"]}, [{"words": "x", "about": "c"}, {"words": "y", "about": "c"}]),
        (
            {
                "type": "FeatureCollection",
                "features": [{"type": "Feature", "id": 1}, {"type": "Feature", "id": 2}],
            },
            [{"type": "Feature", "id": 1}, {"type": "Feature", "id": 2}],
        ),
        ({"q1": {"a": 1, "b": 2}, "q2": {"a": 3}}, [{"key": "q1", "a": 1, "b": 2}, {"key": "q2", "a": 3}]),
        ({"a": [1, 2], "b": ["x", "y"]}, [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
        ({"a": {"0": 1, "1": 2}, "b": {"0": "x", "1": "y"}}, [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
        (
            {"columns": ["a", "b"], "index": [0, 1], "data": [[1, "x"], [2, "y"]]},
            [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}],
        ),
        ([["name", "age"], ["Ann", 3], ["Bob", 4]], [{"name": "Ann", "age": 3}, {"name": "Bob", "age": 4}]),
        ([["Ann", 3], ["Bob", 4]], [{"column_0": "Ann", "column_1": 3}, {"column_0": "Bob", "column_1": 4}]),
        ({"fields": ["a", "b"], "rows": [[1, "x"], [2, "y"]]}, [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
        (
            {"meta": {"view": {"columns": [{"name": "a"}, {"name": "b"}]}}, "data": [[1, "x"], [2, "y"]]},
            [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}],
        ),
        (
            {"table": {"columnNames": ["a", "b"], "columnTypes": ["int", "str"], "rows": [[1, "x"], [2, "y"]]}},
            [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}],
        ),
        (
            {
                "head": {"vars": ["a", "b"]},
                "results": {"bindings": [{"a": {"type": "uri", "value": "u"}}, {"b": {"value": "v"}}]},
            },
            [{"a": "u"}, {"b": "v"}],
        ),
        ({"title": "t", "meta": {"n": 1}}, [{"title": "t", "meta": {"n": 1}}]),
        ({"xs": [{"a": 1}], "ys": [{"b": 1}]}, [{"xs": [{"a": 1}], "ys": [{"b": 1}]}]),
    ],
)
def test_the_rows_of(read, write, document, rows):
    assert read(JsonDocument(), write("a.json", json.dumps(document, indent=1))).rows == rows


def test_a_big_array_is_read_in_pieces_with_the_same_rows(read, write):
    rows = [{"n": n, "text": "é" * (n % 500), "x": [n / 3, None, 10**n if n < 40 else 0]} for n in range(20_000)]
    path = write("a.json", json.dumps(rows, indent=2, ensure_ascii=False))
    whole, pieces = read(JsonDocument(), path), read(JsonDocument(max_document_bytes=1000), path)
    assert whole.error is None
    assert pieces.error is None
    assert pieces.rows == whole.rows
    assert whole.count == 20_000


def test_a_big_object_says_how_to_make_lines_of_it(read, write):
    found = read(JsonDocument(max_document_bytes=100), write("a.json", json.dumps({"rows": [{"a": "x" * 200}]})))
    assert isinstance(found.error, SourceTooLargeError)
    assert "jq" in str(found.error)


@pytest.mark.parametrize("content", ['[{"a": 1}, {"a"', '{"a": NaN}', "[" * 100_000, '[{"a": "\\ud800"}]'])
@pytest.mark.parametrize("limit", [10, 1 << 20])
def test_damage_is_an_error_that_names_the_file(read, write, content, limit):
    found = read(JsonDocument(max_document_bytes=limit), write("a.json", content))
    assert found.error is not None or found.rejects
    assert not found.error or "a.json" in str(found.error)


def test_a_cut_array_in_pieces_gives_what_is_whole(read, write):
    content = json.dumps([{"n": n} for n in range(3_000_000 // 10)])
    found = read(JsonDocument(max_document_bytes=1000), write("a.json", content[:-7]))
    assert isinstance(found.error, SourceDamagedError)
    assert "element 299999" in str(found.error)


def test_an_object_that_describes_the_texts_beside_it_is_passed_over(write, source):
    about = write("about.json", '{"title": "t"}')
    (claim,) = json_document.detect(source(about, write("a.txt", "x"), write("b.txt", "y")))
    assert claim.files == ()
    assert claim.described[0][0] == "about.json"


def test_a_question_of_squad_is_a_row_with_its_context(read, write):
    def question(article: int, number: int) -> dict[str, object]:
        answers = [{"text": "x", "answer_start": number}]
        return {"id": f"{article}{number}", "question": f"who {number}?", "answers": answers}

    articles = [
        {"title": f"T{n}", "paragraphs": [{"context": f"about {n}", "qas": [question(n, 0), question(n, 1)]}]}
        for n in (0, 1)
    ]
    found = read(JsonDocument(), write("train-v1.1.json", json.dumps({"version": "1.1", "data": articles})))
    assert [(row["id"], row["title"], row["context"], row["question"]) for row in found.rows] == [
        ("00", "T0", "about 0", "who 0?"),
        ("01", "T0", "about 0", "who 1?"),
        ("10", "T1", "about 1", "who 0?"),
        ("11", "T1", "about 1", "who 1?"),
    ]
    assert found.rows[3]["answers"] == [{"text": "x", "answer_start": 1}]
    assert {row["version"] for row in found.rows} == {"1.1"}


def test_objects_by_key_that_lack_most_of_their_keys_are_rows(read, write):
    types = {
        f"text/{n}": {"source": "iana"} if n % 3 else {"extensions": [f"x{n}"], "charset": "UTF-8"} for n in range(30)
    }
    found = read(JsonDocument(), write("a.json", json.dumps(types)))
    assert found.count == 30
    assert found.rows[1] == {"key": "text/1", "source": "iana"}


def test_settings_of_many_kinds_stay_one_row(read, write):
    settings = {f"part{n}": {f"option{n}": n, f"other{n}": n} for n in range(30)}
    assert read(JsonDocument(), write("a.json", json.dumps(settings))).count == 1


def test_a_first_array_that_may_be_a_row_is_refused_with_a_way_to_say_it(read, write):
    found = read(
        JsonDocument(), write("a.json", json.dumps([["Oslo", "Norway"], ["Rome", "Italy"], ["Bonn", "Norway"]]))
    )
    assert "may name the columns, or be a row" in found.error.message
    assert "--header none" in found.error.remedy
